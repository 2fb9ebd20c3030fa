"""The plain model, weights from elsewhere, and the pictures it takes."""
