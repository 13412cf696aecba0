"""The lab's ARC cluster: five endpoints that agree by majority on the states of routing controls; two may be down."""
