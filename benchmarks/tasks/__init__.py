"""What is measured: one module per task, one function per framework in it."""
