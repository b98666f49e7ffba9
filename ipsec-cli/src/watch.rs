//! `ipsec watch`: one JSON object a line for each event (docs/nmi.md section 6.21).

use crate::args::Arguments;
use crate::client::PATIENCE;
use crate::exit::Failure;
use crate::report::layout::utc;
use crate::trace;
use nmi_proto::client::Client;
use nmi_proto::code::EventKind;
use nmi_proto::display::Event;
use serde_json::{Map, Value, json};
use std::io::{self, Write};

/// Subscribes and prints, until `count` events were printed, the reader leaves or the daemon ends.
pub(crate) fn run(arguments: &Arguments, kinds: &[String], count: Option<u64>) -> Result<(), Failure> {
    let kinds = bits(kinds)?;
    let mut client = Client::connect(&arguments.socket, Some(PATIENCE)).map_err(Failure::Client)?;
    if arguments.trace {
        client.set_trace(trace::trace);
    }
    let stack = arguments.stack.as_deref();
    client.subscribe(stack.unwrap_or_default(), kinds).map_err(|error| Failure::of(error, stack))?;
    let mut printed = 0;
    while count.is_none_or(|count| printed < count) {
        let event = client.next_event(None).map_err(Failure::Client)?;
        let Some(event) = event else { continue };
        printed += 1;
        // A line is of use only at once: whoever reads it waits for it.
        match writeln!(io::stdout(), "{}", line(&event)).and_then(|()| io::stdout().flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(Failure::Output)?,
        }
    }
    Ok(())
}

fn bits(kinds: &[String]) -> Result<u32, Failure> {
    let bit = |word: &String| {
        let known = EventKind::KNOWN.iter().find(|k| k.name() == Some(word.to_ascii_lowercase().as_str()));
        known.map(|k| k.bit()).ok_or_else(|| {
            let all: Vec<_> = EventKind::KNOWN.iter().filter_map(|k| k.name()).collect();
            Failure::Usage(format!("`{}` is no kind of event: {}", word.escape_debug(), all.join(", ")))
        })
    };
    kinds.iter().try_fold(0, |sum, word| Ok(sum | bit(word)?))
}

/// What belongs to the kind, and nothing else. JSON escapes what would steer a terminal.
fn line(e: &Event) -> Value {
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| {
        map.insert(name.to_owned(), value);
    };
    put("time", json!(utc(e.time)));
    put("sequence", json!(e.sequence));
    if e.lost > 0 {
        put("lost", json!(e.lost));
    }
    put("event", json!(e.kind.to_string()));
    let mut text = |name: &str, value: &str| {
        if !value.is_empty() {
            put(name, json!(value));
        }
    };
    text("stack", &e.stack);
    text("tunnel", &e.tunnel_id);
    text("ike_tunnel", &e.parent_id);
    text("rule", &e.rule);
    let address = |a: nmi_proto::value::Address| (!a.is_zero()).then(|| a.ip(e.ipv6).to_string());
    let is_dvipa = matches!(
        e.kind,
        EventKind::OWNER_CHANGED | EventKind::PROTECTION_LOST | EventKind::PROTECTION_REGAINED
    );
    text(if is_dvipa { "dvipa" } else { "local" }, &address(e.local).unwrap_or_default());
    text("remote", &address(e.remote).unwrap_or_default());
    text("owner", &e.owner);
    text("from", &e.from);
    text("reason", &e.reason);
    for (name, number) in [
        ("generation", u64::from(e.generation)),
        ("spi_in", u64::from(e.in_spi)),
        ("spi_out", u64::from(e.out_spi)),
        ("epoch", e.epoch),
    ] {
        if number != 0 {
            put(name, json!(number));
        }
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nmi_proto::value::Time;
    use std::net::IpAddr;

    #[test]
    fn a_line_has_what_belongs_to_its_kind() {
        let base = Event {
            sequence: 7,
            time: Time(1_741_010_841),
            stack: "DIST".into(),
            local: IpAddr::from([192, 0, 2, 80]).into(),
            ..Event::default()
        };
        let owner = Event {
            kind: EventKind::OWNER_CHANGED,
            lost: 3,
            owner: "DIST".into(),
            from: "TGT1".into(),
            epoch: 8,
            ..base.clone()
        };
        assert_eq!(
            line(&owner).to_string(),
            r#"{"time":"2025-03-03T14:07:21Z","sequence":7,"lost":3,"event":"owner_changed","stack":"DIST","dvipa":"192.0.2.80","owner":"DIST","from":"TGT1","epoch":8}"#
        );
        let child = Event {
            kind: EventKind::CHILD_UP,
            tunnel_id: "Y7".into(),
            parent_id: "K3".into(),
            remote: IpAddr::from([203, 0, 113, 20]).into(),
            rule: "a\u{1b}[2J".into(),
            generation: 1,
            in_spi: 5,
            ..base
        };
        assert_eq!(
            line(&child).to_string(),
            r#"{"time":"2025-03-03T14:07:21Z","sequence":7,"event":"child_up","stack":"DIST","tunnel":"Y7","ike_tunnel":"K3","rule":"a?[2J","local":"192.0.2.80","remote":"203.0.113.20","generation":1,"spi_in":5}"#
        );
    }

    #[test]
    fn kinds_are_named_and_unknown_ones_refused() {
        let words = |all: &[&str]| bits(&all.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&[]).unwrap(), 0);
        assert_eq!(words(&["ike_up", "CHILD_DOWN"]).unwrap(), 1 << 1 | 1 << 6);
        assert!(words(&["up"]).unwrap_err().to_string().contains("owner_changed"));
    }
}
