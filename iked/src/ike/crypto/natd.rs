//! The hash of NAT_DETECTION_SOURCE_IP and NAT_DETECTION_DESTINATION_IP (RFC 7296 section 2.23).

use sha1::{Digest, Sha1};
use std::net::{IpAddr, SocketAddr};

/// `SHA-1(SPIi | SPIr | IP | port)`, the SPIs as in the header of the message that carries it.
#[must_use]
pub fn nat_detection_hash(spi_i: u64, spi_r: u64, endpoint: SocketAddr) -> [u8; 20] {
    let mut hash = Sha1::new();
    hash.update(spi_i.to_be_bytes());
    hash.update(spi_r.to_be_bytes());
    match endpoint.ip() {
        IpAddr::V4(address) => hash.update(address.octets()),
        IpAddr::V6(address) => hash.update(address.octets()),
    }
    hash.update(endpoint.port().to_be_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_counts() {
        let at = |text: &str| text.parse().unwrap();
        let hash = nat_detection_hash(1, 2, at("192.0.2.1:500"));
        // SHA-1 of 00000000000000010000000000000002c000020101f4, by Python's hashlib.
        assert_eq!(hex::encode(hash), "e551650fd0b1c24a937f8f251b195b30fec944e4");
        for other in [
            nat_detection_hash(3, 2, at("192.0.2.1:500")),
            nat_detection_hash(1, 3, at("192.0.2.1:500")),
            nat_detection_hash(1, 2, at("192.0.2.2:500")),
            nat_detection_hash(1, 2, at("192.0.2.1:4500")),
            nat_detection_hash(1, 2, at("[2001:db8::1]:500")),
        ] {
            assert_ne!(hash, other);
        }
    }
}
