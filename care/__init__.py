"""What care requires: contract, fulfilment, referral and payment rules as pure functions."""
