//! Addresses of which only the network is kept.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use plumb_record::FlowProfile;

use crate::args::KeptBits;

/// Zeroes the bits of a profile's addresses that are not to be kept.
pub(super) fn anonymise(profile: &mut FlowProfile, kept: KeptBits) {
    profile.local_addr = network(profile.local_addr, kept);
    profile.remote_addr = network(profile.remote_addr, kept);
}

/// Zeroes the bits of an address that are not to be kept.
pub(super) fn network(address: IpAddr, kept: KeptBits) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let lost = u32::MAX.checked_shr(kept.0.into()).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & !lost).into()
        }
        IpAddr::V6(v6) => {
            let lost = u128::MAX.checked_shr(kept.1.into()).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & !lost).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_network_is_left() {
        let of = |text: &str, kept| network(text.parse().unwrap(), kept).to_string();
        assert_eq!(of("192.0.2.77", KeptBits(24, 64)), "192.0.2.0");
        assert_eq!(of("192.0.2.77", KeptBits(32, 64)), "192.0.2.77");
        assert_eq!(of("192.0.2.77", KeptBits(0, 64)), "0.0.0.0");
        assert_eq!(of("2001:db8:1:2:3::4", KeptBits(24, 64)), "2001:db8:1:2::");
        assert_eq!(of("2001:db8::4", KeptBits(24, 128)), "2001:db8::4");
        assert_eq!(of("2001:db8::4", KeptBits(24, 0)), "::");
    }
}
