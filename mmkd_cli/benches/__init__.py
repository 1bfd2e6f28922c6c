"""What `evaluate --bench` names: items in, scores and a page out."""
