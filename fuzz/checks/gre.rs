//! A GRE packet from the XCF link, from its GRE header on; what parses writes back to the same header.

use stack::wire::gre::GreHeader;

pub(crate) fn check(data: &[u8]) {
    let Ok((header, len)) = GreHeader::parse(data) else { return };
    assert!(len <= data.len());
    let mut room = [0; 16];
    header.write_before(&mut room);
    assert_eq!(GreHeader::parse(&room[room.len() - header.len()..]), Ok((header, header.len())));
}
