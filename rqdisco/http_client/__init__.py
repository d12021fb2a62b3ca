"""Requests to other servers by HTTP/1.1, over pooled connections that are parsed by llhttp."""
