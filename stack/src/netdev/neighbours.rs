//! Proxy neighbour entries: by them the owner of a home address answers ARP and neighbour solicitations for it.

use super::{NetDevError, OWN_PROTOCOL, Wanted, absent, exists, links::Link};
use futures_util::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::route::RouteProtocol;
use rtnetlink::Handle;
use std::collections::BTreeSet;
use std::net::IpAddr;

fn message(interface: u32, address: IpAddr) -> NeighbourMessage {
    let mut m = NeighbourMessage::default();
    let destination = match address {
        IpAddr::V4(a) => {
            m.header.family = AddressFamily::Inet;
            NeighbourAddress::Inet(a)
        }
        IpAddr::V6(a) => {
            m.header.family = AddressFamily::Inet6;
            NeighbourAddress::Inet6(a)
        }
    };
    m.header.ifindex = interface;
    m.header.flags = NeighbourFlags::Proxy;
    m.attributes.push(NeighbourAttribute::Destination(destination));
    m.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::from(OWN_PROTOCOL)));
    m
}

/// Interface and address of ours.
async fn read(handle: &Handle) -> Result<Vec<(u32, IpAddr)>, NetDevError> {
    let messages: Vec<NeighbourMessage> = handle
        .neighbours()
        .get()
        .proxies()
        .execute()
        .try_collect()
        .await
        .wanted(|| "the proxy neighbour entries cannot be read".into())?;
    Ok(messages.iter().filter_map(parse).collect())
}

fn parse(m: &NeighbourMessage) -> Option<(u32, IpAddr)> {
    let own = m
        .attributes
        .iter()
        .any(|a| matches!(a, NeighbourAttribute::Protocol(p) if u8::from(*p) == OWN_PROTOCOL));
    let address = m.attributes.iter().find_map(|a| match a {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => Some(IpAddr::V4(*a)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => Some(IpAddr::V6(*a)),
        _ => None,
    })?;
    own.then_some((m.header.ifindex, address))
}

pub(super) async fn add_missing(
    handle: &Handle,
    wanted: &BTreeSet<IpAddr>,
    network: &[&Link],
) -> Result<(), NetDevError> {
    let present = read(handle).await?;
    for link in network {
        for address in wanted {
            if present.contains(&(link.index, *address)) {
                continue;
            }
            let mut request = handle.neighbours().add(link.index, *address);
            *request.message_mut() = message(link.index, *address);
            match request.execute().await {
                Err(e) if exists(&e) => {}
                other => other.wanted(|| format!("{} cannot answer for {address}", link.name))?,
            }
        }
    }
    Ok(())
}

/// Removes ours that are not wanted.
pub(super) async fn withdraw(
    handle: &Handle,
    wanted: &BTreeSet<IpAddr>,
    network: &[&Link],
) -> Result<(), NetDevError> {
    for (interface, address) in read(handle).await? {
        if wanted.contains(&address) && network.iter().any(|l| l.index == interface) {
            continue;
        }
        match handle.neighbours().del(message(interface, address)).execute().await {
            Err(e) if absent(&e) => {}
            other => other.wanted(|| format!("the answers for {address} cannot be stopped"))?,
        }
    }
    Ok(())
}
