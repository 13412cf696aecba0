"""The lab: two sites and a witness on one machine, from parts that pip installs."""
