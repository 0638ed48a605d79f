"""Training the gates: documents, loss, truncated backpropagation, and the card of what came out."""
