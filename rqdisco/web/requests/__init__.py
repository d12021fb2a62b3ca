"""What all doors do with a request: who asks, how long it may take, what is answered."""
