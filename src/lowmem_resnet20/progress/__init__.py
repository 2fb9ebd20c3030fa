"""Progress, shown here or relayed from elsewhere, and the streams that it is written to."""
