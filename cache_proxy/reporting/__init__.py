"""What is told of receipts: log lines and running totals."""
