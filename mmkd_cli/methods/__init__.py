"""What `distill --method` names: a student, the teacher's signals it learns from, and the loss, a file each."""
