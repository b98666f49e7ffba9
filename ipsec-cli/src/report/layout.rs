//! The layouts of reports: detail, short, wide and JSON (ipsec-command.md section 4).

use super::{Body, Cell, Entry, Field, Item, Report};
use crate::request::Format;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nmi_proto::value::Time;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Column of the values in the detail layout, counted from 0.
const VALUE_COLUMN: usize = 30;
/// Characters of a key id that are shown; the wide layout shows all.
const SHOWN_BYTES: usize = 34;
/// Line below an entry.
const RULE: &str = "***********************************************************************";

/// A report as text.
pub(crate) fn text(report: &Report, format: Format) -> String {
    let mut out = report.heading.text(format);
    match &report.body {
        Body::Entries(entries) => {
            match format {
                Format::Detail => entries.iter().for_each(|entry| detail(entry, 0, &mut out)),
                Format::Short => short(entries, &mut out),
                Format::Wide => wide(entries, &mut out),
            }
            selected(entries.len(), &mut out);
        }
        Body::Table { columns, rows, counted } => {
            table(columns, rows, &mut out);
            if *counted {
                selected(rows.len(), &mut out);
            }
        }
        Body::Line(line) => {
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

fn selected(count: usize, out: &mut String) {
    // With entries, or the names of a table, an empty line goes before; without, the heading ends with one.
    if !out.ends_with("\n\n") {
        out.push('\n');
    }
    let _ = writeln!(out, "{count} entries selected");
}

fn detail(entry: &Entry, depth: usize, out: &mut String) {
    for field in entry.rows.iter().flatten() {
        let margin = depth * 2 + usize::from(field.indented);
        if let Some(title) = field.title {
            let _ = writeln!(out, "{:width$}{title}", "", width = depth * 2);
        }
        let name = format!("{:margin$}{}:", "", field.name);
        let width = VALUE_COLUMN.max(name.len() + 1);
        let value = match &field.cell {
            Cell::Items(items) if !items.is_empty() => {
                items.iter().map(aligned).collect::<Vec<_>>().join(&format!("\n{:width$}", ""))
            }
            cell => plain(cell),
        };
        let _ = writeln!(out, "{}", format!("{name:<width$}{value}").trim_end());
    }
    for below in &entry.below {
        out.push('\n');
        detail(below, depth + 1, out);
    }
    if depth == 0 {
        let _ = writeln!(out, "{RULE}");
    }
}

/// An item with its values below those of the items above it: names left, times right.
fn aligned(item: &Item) -> String {
    let cells = item.iter().map(|(_, cell)| match cell {
        Cell::Micros(_) => format!("{:>14}", plain(cell)),
        Cell::Number(_) => format!("{:<2}", plain(cell)),
        cell => format!("{:<12}", plain(cell)),
    });
    cells.collect::<Vec<_>>().join(" ").trim_end().to_owned()
}

/// The names once in several lines, then the values of each entry in the same shape.
fn short(entries: &[Entry], out: &mut String) {
    let Some(first) = entries.first() else { return };
    short_block(first, &|field: &Field| field.short.to_owned(), out);
    for entry in entries {
        short_block(entry, &|field: &Field| plain(&field.cell), out);
    }
}

fn short_block(entry: &Entry, show: &dyn Fn(&Field) -> String, out: &mut String) {
    for (number, row) in entry.rows.iter().enumerate() {
        let cells: Vec<_> = row.iter().map(show).collect();
        match (number, cells.split_first()) {
            // Only the first name of an entry is not led in by a bar.
            (0, Some((name, rest))) => {
                let _ = write!(out, "{name} ");
                rest.iter().for_each(|cell| {
                    let _ = write!(out, "|{cell}");
                });
                if rest.is_empty() {
                    out.push('|');
                }
                out.push('\n');
            }
            _ => {
                let _ = writeln!(out, "|{}", cells.join("|"));
            }
        }
    }
    for below in &entry.below {
        short_block(below, show, out);
    }
    let _ = writeln!(out, "{RULE}");
}

fn wide(entries: &[Entry], out: &mut String) {
    let Some(first) = entries.first() else { return };
    let line = |entry: &Entry, show: &dyn Fn(&Field) -> String| {
        entry.rows.iter().flatten().map(show).collect::<Vec<_>>().join("|")
    };
    let whole = |field: &Field| match &field.cell {
        Cell::Bytes(hex) => hex.clone(),
        cell => plain(cell),
    };
    let _ = writeln!(out, "{}", line(first, &|field: &Field| field.name.to_owned()));
    for entry in entries {
        let _ = writeln!(out, "{}", line(entry, &whole));
        for below in &entry.below {
            let _ = writeln!(out, "{}", line(below, &whole));
        }
    }
}

fn table(columns: &[(&str, &str, usize)], rows: &[Vec<Cell>], out: &mut String) {
    let mut line = |cells: Vec<String>| {
        let mut text = String::new();
        for (cell, (_, _, width)) in cells.into_iter().zip(columns) {
            let _ = write!(text, "{cell:<width$}");
            if *width > 0 && cell.chars().count() >= *width {
                text.push(' ');
            }
        }
        let _ = writeln!(out, "{}", text.trim_end());
    };
    line(columns.iter().map(|(name, ..)| (*name).to_owned()).collect());
    for row in rows {
        line(row.iter().map(plain).collect());
    }
}

/// A report as JSON: the same names and order; what is not applicable is `null`, times are UTC.
pub(crate) fn json(report: &Report) -> String {
    let heading = &report.heading;
    let mut root = Map::new();
    root.insert("stack".into(), json!(heading.stack));
    root.insert("time".into(), value(&Cell::from(heading.time)));
    root.insert("primary".into(), json!(heading.primary));
    root.insert("function".into(), json!(heading.function));
    if let Some(display) = &heading.display {
        root.insert("source".into(), json!(display.source));
        root.insert("scope".into(), json!(display.scope));
        root.insert("total_available".into(), json!(display.total));
    }
    for (name, cell) in heading.more.iter().flatten() {
        root.insert((*name).into(), value(cell));
    }
    match &report.body {
        Body::Entries(entries) => {
            root.insert("entries".into(), entries.iter().map(object).collect());
        }
        Body::Table { columns, rows, .. } => {
            let row = |cells: &Vec<Cell>| {
                let pairs =
                    columns.iter().zip(cells).map(|((_, name, _), cell)| ((*name).to_owned(), value(cell)));
                Value::Object(pairs.collect())
            };
            root.insert("entries".into(), rows.iter().map(row).collect());
        }
        Body::Line(line) => {
            root.insert("result".into(), json!(line));
        }
    }
    format!("{:#}\n", Value::Object(root))
}

fn object(entry: &Entry) -> Value {
    let fields = entry.rows.iter().flatten();
    let mut map: Map<_, _> = fields.map(|f| (f.name.to_owned(), value(&f.cell))).collect();
    if !entry.below.is_empty() {
        map.insert("DynamicTunnels".into(), entry.below.iter().map(object).collect());
    }
    Value::Object(map)
}

fn value(cell: &Cell) -> Value {
    match cell {
        Cell::None => Value::Null,
        Cell::Text(text) | Cell::Bytes(text) => json!(text),
        Cell::Number(number) | Cell::Unit(number, _) => json!(number),
        Cell::Time(time) => json!(timestamp(*time).to_string()),
        Cell::Flag(flag) => json!(flag),
        Cell::Spi(spi) => json!(spi),
        Cell::Micros(us) => json!(us),
        Cell::Items(items) => items
            .iter()
            .map(|item| {
                item.iter().map(|(name, cell)| ((*name).to_owned(), value(cell))).collect::<Map<_, _>>()
            })
            .collect(),
    }
}

/// A value in a text layout.
pub(crate) fn plain(cell: &Cell) -> String {
    match cell {
        Cell::None => "n/a".to_owned(),
        Cell::Text(text) => text.clone(),
        Cell::Bytes(hex) if hex.len() > SHOWN_BYTES => {
            format!("{}…", hex.get(..SHOWN_BYTES).unwrap_or_default())
        }
        Cell::Bytes(hex) => hex.clone(),
        Cell::Number(number) => number.to_string(),
        Cell::Unit(number, unit) => format!("{number}{unit}"),
        Cell::Time(time) => local(*time, "%Y/%m/%d %H:%M:%S"),
        Cell::Flag(true) => "Yes".to_owned(),
        Cell::Flag(false) => "No".to_owned(),
        Cell::Spi(spi) => format!("{spi} (0X{spi:08X})"),
        Cell::Micros(us) => format!("{}.{:03}ms", us / 1000, us % 1000),
        Cell::Items(items) if items.is_empty() => "n/a".to_owned(),
        Cell::Items(items) => {
            let one = |item: &Item| item.iter().map(|(_, c)| plain(c)).collect::<Vec<_>>().join(" ");
            items.iter().map(one).collect::<Vec<_>>().join(", ")
        }
    }
}

/// A time in the zone of whoever runs the command.
pub(crate) fn local(time: Time, format: &str) -> String {
    let zone = if cfg!(test) { TimeZone::UTC } else { TimeZone::system() };
    timestamp(time).to_zoned(zone).strftime(format).to_string()
}

/// A time as JSON has it.
pub(crate) fn utc(time: Time) -> String {
    timestamp(time).to_string()
}

fn timestamp(time: Time) -> Timestamp {
    Timestamp::from_second(i64::from(time.0)).unwrap_or(Timestamp::UNIX_EPOCH)
}
