//! Interfaces: their MTU and state, and the TUN made ready.

use super::{NetDevError, Wanted};
use futures_util::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, LinkUnspec};

/// Packets that wait in the TUN for the worker, at most: super-packets of 64 KiB among them.
const TUN_QUEUE: u32 = 4000;

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// MTU, octets.
    pub mtu: u32,
    /// Hardware address, if it has one of six octets.
    pub hardware: Option<[u8; 6]>,
    /// Up and with a carrier.
    pub up: bool,
}

/// Every interface of the namespace.
pub(super) async fn read(handle: &Handle) -> Result<Vec<Link>, NetDevError> {
    let messages: Vec<LinkMessage> = handle
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .wanted(|| "the interfaces cannot be read".into())?;
    Ok(messages.iter().filter_map(parse).collect())
}

/// What a netlink message says of an interface.
#[must_use]
pub fn parse(m: &LinkMessage) -> Option<Link> {
    let mut link = Link {
        index: m.header.index,
        name: String::new(),
        mtu: 0,
        hardware: None,
        up: m.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
    };
    for a in &m.attributes {
        match a {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(a) => link.hardware = a.as_slice().try_into().ok(),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

/// Index of an interface.
pub(super) async fn index(handle: &Handle, name: &str) -> Result<u32, NetDevError> {
    read(handle)
        .await?
        .into_iter()
        .find(|l| l.name == name)
        .map(|l| l.index)
        .ok_or_else(|| NetDevError::NoInterface(name.to_owned()))
}

/// Brings the TUN up with the MTU of the network, so that applications choose segments that fit unprotected; what
/// protection takes is taken off by the engine (MSS, "fragmentation needed").
pub(super) async fn raise_tun(handle: &Handle, name: &str, mtu: u16) -> Result<(), NetDevError> {
    let index = index(handle, name).await?;
    let message = LinkUnspec::new_with_index(index).mtu(mtu.into()).txqueuelen(TUN_QUEUE).up().build();
    handle.link().set(message).execute().await.wanted(|| format!("{name} cannot be brought up"))
}

/// `lo` of a new namespace is down, and addresses on it are then not local.
pub(super) async fn raise_loopback(handle: &Handle) -> Result<(), NetDevError> {
    let message = LinkUnspec::new_with_name("lo").up().build();
    handle.link().set(message).execute().await.wanted(|| "lo cannot be brought up".into())
}
