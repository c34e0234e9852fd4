"""What is wrong: with this machine's installation, and with the results of a run. It reads; it changes nothing."""
