//! Table 100: into the TUN, and nowhere when there is none.
//!
//! The discarding route has the higher metric. Without it a lookup falls through when the TUN is gone, and the kernel
//! delivers and sends in clear.

use super::rules::DIVERT_TABLE;
use super::{NetDevError, OWN_PROTOCOL, Wanted, absent, exists, links};
use crate::driver::raw::Family;
use netlink_packet_route::route::{RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::{Handle, RouteMessageBuilder};
use std::net::{Ipv4Addr, Ipv6Addr};

const TUN_METRIC: u32 = 100;
const DISCARD_METRIC: u32 = 200;

fn route(
    family: Family,
    kind: RouteType,
    scope: RouteScope,
    metric: u32,
    output: Option<u32>,
) -> RouteMessage {
    // The same steps for two builder types.
    macro_rules! build {
        ($family:ty) => {{
            let b = RouteMessageBuilder::<$family>::new()
                .table_id(DIVERT_TABLE.into())
                .protocol(RouteProtocol::from(OWN_PROTOCOL))
                .kind(kind)
                .scope(scope)
                .priority(metric);
            match output {
                Some(index) => b.output_interface(index).build(),
                None => b.build(),
            }
        }};
    }
    match family {
        Family::V4 => build!(Ipv4Addr),
        Family::V6 => build!(Ipv6Addr),
    }
}

fn discarding(family: Family) -> RouteMessage {
    route(family, RouteType::BlackHole, RouteScope::Universe, DISCARD_METRIC, None)
}

fn diverting(family: Family, tun: u32) -> RouteMessage {
    let scope = match family {
        Family::V4 => RouteScope::Link,
        Family::V6 => RouteScope::Universe,
    };
    route(family, RouteType::Unicast, scope, TUN_METRIC, Some(tun))
}

async fn add(handle: &Handle, message: RouteMessage, what: &str) -> Result<(), NetDevError> {
    match handle.route().add(message).execute().await {
        Err(e) if exists(&e) => Ok(()),
        other => other.wanted(|| format!("the {what} route of table {DIVERT_TABLE} cannot be added")),
    }
}

/// The route that discards.
pub(super) async fn discard(handle: &Handle, family: Family) -> Result<(), NetDevError> {
    add(handle, discarding(family), "discarding").await
}

/// The route into the TUN; the kernel removes it with the device.
pub(super) async fn divert(handle: &Handle, family: Family, tun: &str) -> Result<(), NetDevError> {
    let index = links::index(handle, tun).await?;
    add(handle, diverting(family, index), "TUN's").await
}

/// Removes the discarding route; the other one goes with the TUN.
pub(super) async fn remove(handle: &Handle, family: Family) -> Result<(), NetDevError> {
    match handle.route().del(discarding(family)).execute().await {
        Err(e) if absent(&e) => Ok(()),
        other => other.wanted(|| format!("the discarding route of table {DIVERT_TABLE} cannot be removed")),
    }
}
