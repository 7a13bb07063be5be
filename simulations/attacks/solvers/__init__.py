"""What opens a cipher: plain functions of arrays and of what a scheme makes public. They know no measurement."""
