"""The shelf of report sections: each makes blocks of what the evidence holds."""
