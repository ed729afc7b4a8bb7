//! What a firewall does, told by rules and packets.
