"""The plain model in PyTorch, weights from elsewhere, and the pictures it takes."""
