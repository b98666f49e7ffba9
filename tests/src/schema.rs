//! What `docs/json.md` says of the reports of `ipsec --json`, and whether a report is so.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

/// The fields of an object, in their order, and those of the objects in its lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object {
    fields: Vec<(String, String)>,
    lists: BTreeMap<String, Self>,
}

/// Fields of the entries of each report, by `primary: function` or `primary: function: source`.
#[derive(Debug, Default)]
pub struct Schema(BTreeMap<String, Object>);

impl Schema {
    /// Reads the document.
    ///
    /// # Errors
    /// When it cannot be read, or a table is not as expected.
    pub fn read() -> Result<Self> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/json.md");
        let text = std::fs::read_to_string(path).context("docs/json.md")?;
        let mut all = BTreeMap::new();
        let (mut names, mut object, mut list): (Vec<String>, Object, Option<String>) = Default::default();
        let mut take = |names: &mut Vec<String>, object: &mut Object| {
            let object = std::mem::take(object);
            for name in names.drain(..) {
                all.insert(name, object.clone());
            }
        };
        for line in text.lines() {
            if line.starts_with("## ") {
                take(&mut names, &mut object);
                list = None;
            } else if let Some(name) = line.strip_prefix("<!-- report: ").and_then(|l| l.strip_suffix(" -->"))
            {
                names.push(name.to_owned());
            } else if let Some(field) = line.strip_prefix("Each of `").and_then(|l| l.split('`').next()) {
                list = Some(field.to_owned());
            } else if let Some(row) = line.strip_prefix("| `").filter(|_| !names.is_empty()) {
                let (field, rest) = row.split_once("` | ").with_context(|| line.to_owned())?;
                let kind = rest.trim_end_matches('|').trim().to_owned();
                let of = match &list {
                    None => &mut object,
                    Some(list) => object.lists.entry(list.clone()).or_default(),
                };
                of.fields.push((field.to_owned(), kind));
            }
        }
        take(&mut names, &mut object);
        ensure!(all.len() > 20, "{} reports in docs/json.md", all.len());
        Ok(Self(all))
    }

    /// The names of the reports.
    pub fn reports(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Compares a report with the document; gives the name under which it stands there.
    ///
    /// # Errors
    /// Where they differ.
    pub fn check(&self, report: &Value) -> Result<String> {
        let text = |key: &str| report[key].as_str().unwrap_or_default();
        let short = format!("{}: {}", text("primary"), text("function"));
        let long = format!("{short}: {}", text("source"));
        let (name, object) = match (self.0.get(&long), self.0.get(&short)) {
            (Some(object), _) => (long, object),
            (None, Some(object)) => (short, object),
            (None, None) => bail!("docs/json.md has no report {long}"),
        };
        let keys: Vec<&str> = report.as_object().context("an object")?.keys().map(String::as_str).collect();
        ensure!(keys.starts_with(&["stack", "time", "primary", "function"]), "{name}: {keys:?}");
        ensure!(is(&report["time"], "time or null"), "{name}: {}", report["time"]);
        if keys.contains(&"source") {
            ensure!(keys[4..].starts_with(&["source", "scope", "total_available"]), "{name}: {keys:?}");
            ensure!(
                is(&report["total_available"], "number or null"),
                "{name}: {}",
                report["total_available"]
            );
        }
        match (report.get("entries"), report.get("result")) {
            (Some(Value::Array(entries)), None) => {
                for entry in entries {
                    let below = self.0.get("Dynamic tunnel: Display: IKED");
                    object.check(entry, below).with_context(|| format!("{name}: {entry:#}"))?;
                }
            }
            (None, Some(Value::String(_))) => {}
            other => bail!("{name}: {other:?}"),
        }
        Ok(name)
    }
}

impl Object {
    /// `cascade`: what the entries of `DynamicTunnels` are.
    fn check(&self, value: &Value, cascade: Option<&Self>) -> Result<()> {
        let map = value.as_object().context("an object")?;
        let keys: Vec<&String> = map.keys().filter(|k| *k != "DynamicTunnels").collect();
        let documented: Vec<&String> = self.fields.iter().map(|(name, _)| name).collect();
        ensure!(keys == documented, "fields {keys:?}, documented are {documented:?}");
        for (name, kind) in &self.fields {
            ensure!(is(&map[name], kind), "{name} is {}, documented as {kind}", map[name]);
            for one in map[name].as_array().into_iter().flatten() {
                self.lists.get(name).context("a list of nothing")?.check(one, None)?;
            }
        }
        for one in map.get("DynamicTunnels").and_then(Value::as_array).into_iter().flatten() {
            cascade.context("a cascade")?.check(one, None)?;
        }
        Ok(())
    }
}

/// Whether a value is of a documented kind.
fn is(value: &Value, kind: &str) -> bool {
    let or = |word: &str| kind.split([',', ' ']).any(|w| w == word);
    match value {
        Value::Null => or("null"),
        Value::Bool(_) => or("true"),
        Value::Number(n) => or("number") && n.is_u64(),
        Value::String(text) => {
            let is_time = text.len() == 20 && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T');
            or("text") || (or("time") && is_time)
        }
        Value::Array(_) => or("list"),
        Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_samples_of_the_reports_are_as_documented() {
        let schema = Schema::read().unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ipsec-cli/src/report/snapshots");
        let mut seen = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if !path.to_string_lossy().contains("json") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let sample = text.splitn(3, "---\n").nth(2).unwrap();
            let sample: Value = serde_json::from_str(sample).unwrap();
            schema.check(&sample).with_context(|| path.display().to_string()).unwrap();
            seen += 1;
        }
        assert!(seen >= 12, "{seen}");
    }

    #[test]
    fn what_is_not_documented_is_noticed() {
        let schema = Schema::read().unwrap();
        let report = |entry: &str| -> Value {
            serde_json::from_str(&format!(
                r#"{{"stack":"S","time":null,"primary":"Drops","function":"Display","source":"Stack","scope":"n/a","total_available":1,"entries":[{entry}]}}"#
            ))
            .unwrap()
        };
        assert_eq!(schema.check(&report(r#"{"reason":"replay","packets":3}"#)).unwrap(), "Drops: Display");
        for wrong in [
            r#"{"reason":"replay"}"#,
            r#"{"packets":3,"reason":"replay"}"#,
            r#"{"reason":"replay","packets":"3"}"#,
            r#"{"reason":null,"packets":3}"#,
            r#"{"reason":"replay","packets":3,"more":1}"#,
        ] {
            assert!(schema.check(&report(wrong)).is_err(), "{wrong}");
        }
    }
}
