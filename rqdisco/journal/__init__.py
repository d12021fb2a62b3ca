"""What keeps the store on disk: journal segments, snapshots folded from them, and recovery of both at start."""
