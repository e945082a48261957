"""The challenger: it answers what the champion answers, unseen, or a share of the requests."""
