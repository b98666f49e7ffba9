//! Home addresses on `lo`, where applications bind to them and no neighbour can learn them.
//!
//! Never on another interface: unbound sockets choose the route before the source, and would leave in clear.

use super::{NetDevError, OWN_PROTOCOL, Wanted, absent, exists};
use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope, CacheInfo,
};
use rtnetlink::Handle;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// `lo` is the first interface of every namespace.
const LOOPBACK: u32 = 1;

/// One address of the namespace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    pub(super) interface: u32,
    pub(super) address: IpAddr,
    own: bool,
}

pub(super) async fn read(handle: &Handle) -> Result<Vec<Address>, NetDevError> {
    let messages: Vec<AddressMessage> = handle
        .address()
        .get()
        .execute()
        .try_collect()
        .await
        .wanted(|| "the addresses cannot be read".into())?;
    Ok(messages.iter().filter_map(parse).collect())
}

fn parse(m: &AddressMessage) -> Option<Address> {
    let mut found = Address { interface: m.header.index, address: IpAddr::from([0; 4]), own: false };
    let mut address = None;
    for a in &m.attributes {
        match a {
            // IPv4: the own one; `Address` is the peer's on a point-to-point link.
            AddressAttribute::Local(a) => address = Some(*a),
            AddressAttribute::Address(a) => address = address.or(Some(*a)),
            AddressAttribute::Protocol(p) => found.own = u8::from(*p) == OWN_PROTOCOL,
            _ => {}
        }
    }
    found.address = address?;
    Some(found)
}

fn message(address: IpAddr) -> AddressMessage {
    let mut m = AddressMessage::default();
    m.header.index = LOOPBACK;
    m.header.scope = AddressScope::Universe;
    m.attributes.push(AddressAttribute::Address(address));
    m.attributes.push(AddressAttribute::Local(address));
    m.attributes.push(AddressAttribute::Protocol(AddressProtocol::from(OWN_PROTOCOL)));
    match address {
        IpAddr::V4(_) => {
            m.header.family = AddressFamily::Inet;
            m.header.prefix_len = 32;
        }
        IpAddr::V6(_) => {
            m.header.family = AddressFamily::Inet6;
            m.header.prefix_len = 128;
            m.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            // Deprecated from the start: no socket that did not ask for it gets it as source.
            let mut life = CacheInfo::default();
            (life.ifa_preferred, life.ifa_valid) = (0, u32::MAX);
            m.attributes.push(AddressAttribute::CacheInfo(life));
        }
    }
    m
}

/// Adds those that are not on `lo` yet. One that somebody else put there is used, and left there at the end.
pub(super) async fn add_missing(handle: &Handle, wanted: &BTreeSet<IpAddr>) -> Result<(), NetDevError> {
    let present = read(handle).await?;
    for address in wanted {
        if present.iter().any(|p| p.interface == LOOPBACK && p.address == *address) {
            continue;
        }
        let mut request = handle.address().add(LOOPBACK, *address, 0);
        *request.message_mut() = message(*address);
        match request.execute().await {
            Err(e) if exists(&e) => {}
            other => other.wanted(|| format!("home address {address} cannot be added to lo"))?,
        }
    }
    Ok(())
}

/// Removes ours that are not wanted, and says which.
pub(super) async fn withdraw(
    handle: &Handle,
    wanted: &BTreeSet<IpAddr>,
) -> Result<BTreeSet<IpAddr>, NetDevError> {
    let mut gone = BTreeSet::new();
    for present in read(handle).await? {
        if present.own && present.interface == LOOPBACK && !wanted.contains(&present.address) {
            match handle.address().del(message(present.address)).execute().await {
                Err(e) if absent(&e) => {}
                other => {
                    other.wanted(|| format!("home address {} cannot be removed from lo", present.address))?;
                }
            }
            gone.insert(present.address);
        }
    }
    Ok(gone)
}
