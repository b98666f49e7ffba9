//! `ipsec top`: a live view of one stack, over the management interface alone.
//!
//! ```text
//!  client ──► sample (values of one moment) ──► model (rates between two) ──► view (lines) ──► terminal
//!                                                  ▲ keys: sort, filter, scroll
//! ```
//!
//! Only `terminal` touches one. What is shown follows from two samples, the keys and the size of the window, so that
//! tests and `--once` have the same screens without one.

mod keys;
mod model;
mod terminal;
mod view;

use crate::args::Arguments;
use crate::client::PATIENCE;
use crate::exit::Failure;
use keys::Key;
use model::{Model, Sample};
use nmi_proto::client::Client;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};
use terminal::Terminal;
use view::{Settings, Sort};

/// Longest filter.
const MAX_FILTER: usize = 40;
/// Lines that a page key moves.
const PAGE: usize = 10;
/// Size of the window where none is known.
const DEFAULT_SIZE: (u16, u16) = (80, 24);

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Stay,
    Quit,
    NextStack,
}

/// Shows the stack until the operator leaves; with `once` one screen, as text.
pub(crate) fn run(arguments: &Arguments, interval: Duration, once: bool) -> Result<(), Failure> {
    let mut client = Client::connect(&arguments.socket, Some(PATIENCE)).map_err(Failure::Client)?;
    let mut stacks = Stacks::of(&mut client, arguments.stack.as_deref())?;
    let mut settings = Settings { interval, ..Settings::default() };
    let mut model = Model::default();
    let mut next = |model: &mut Model, stack: &str| -> Result<(), Failure> {
        let sample = Sample::take(&mut client, stack, now()).map_err(|e| Failure::of(e, Some(stack)))?;
        model.push(sample);
        Ok(())
    };
    next(&mut model, stacks.current())?;
    if once {
        std::thread::sleep(interval);
        next(&mut model, stacks.current())?;
        let lines = view::screen(&model, &settings, DEFAULT_SIZE);
        return print(&(lines.join("\n") + "\n"));
    }
    if !io::stdout().is_terminal() {
        return Err(Failure::Usage("top needs a terminal; --once prints one screen".into()));
    }
    let mut terminal = Terminal::enter().map_err(Failure::Output)?;
    let mut due = now() + interval;
    loop {
        let lines = view::screen(&model, &settings, terminal.size().unwrap_or(DEFAULT_SIZE));
        terminal.draw(&lines).map_err(Failure::Output)?;
        let wait = due.saturating_duration_since(now());
        for key in terminal.keys(wait).map_err(Failure::Output)? {
            match wish(&mut settings, key) {
                Wish::Quit => return Ok(()),
                Wish::Stay => {}
                Wish::NextStack => {
                    stacks.advance();
                    model = Model::default();
                    due = now();
                }
            }
        }
        if now() >= due {
            if !settings.paused || model.last().is_none() {
                next(&mut model, stacks.current())?;
            }
            due = now() + interval;
        }
    }
}

/// What a key does.
fn wish(settings: &mut Settings, key: Key) -> Wish {
    if key == Key::Interrupt {
        return Wish::Quit;
    }
    if settings.typing {
        match key {
            Key::Enter => settings.typing = false,
            Key::Escape => {
                settings.typing = false;
                settings.filter.clear();
            }
            Key::Backspace => drop(settings.filter.pop()),
            Key::Char(c) if settings.filter.len() < MAX_FILTER => settings.filter.push(c),
            _ => {}
        }
        return Wish::Stay;
    }
    match key {
        Key::Char('q') | Key::Escape => return Wish::Quit,
        Key::Char('n') | Key::Tab => {
            settings.first = 0;
            return Wish::NextStack;
        }
        Key::Char('s') => settings.sort = settings.sort.next(),
        Key::Char('r') => settings.reverse = !settings.reverse,
        Key::Char('p' | ' ') => settings.paused = !settings.paused,
        Key::Char('/') => settings.typing = true,
        Key::Char(c @ '1'..='6') => settings.sort = Sort::ALL[(c as usize) - ('1' as usize)],
        Key::Down | Key::Char('j') => settings.first = settings.first.saturating_add(1),
        Key::Up | Key::Char('k') => settings.first = settings.first.saturating_sub(1),
        Key::PageDown => settings.first = settings.first.saturating_add(PAGE),
        Key::PageUp => settings.first = settings.first.saturating_sub(PAGE),
        Key::Home => settings.first = 0,
        _ => {}
    }
    Wish::Stay
}

/// The stacks that can be looked at, one after the other.
struct Stacks {
    names: Vec<String>,
    at: usize,
}

impl Stacks {
    /// The stack that was named; or all, if the caller may see which there are.
    fn of(client: &mut Client, named: Option<&str>) -> Result<Self, Failure> {
        if let Some(name) = named {
            return Ok(Self { names: vec![name.to_owned()], at: 0 });
        }
        let all = client.stacks().map_err(|e| Failure::of(e, None))?.records;
        let names: Vec<_> = all.iter().map(|r| r.stack.name.as_str().to_owned()).collect();
        if names.is_empty() { Err(Failure::NoStack) } else { Ok(Self { names, at: 0 }) }
    }

    fn current(&self) -> &str {
        &self.names[self.at]
    }

    fn advance(&mut self) {
        self.at = (self.at + 1) % self.names.len();
    }
}

fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(Failure::Output),
    }
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "the clock enters here: the time between two samples")]
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_change_what_is_shown() {
        let mut settings = Settings::default();
        let key = |settings: &mut Settings, key| wish(settings, key);
        assert_eq!(key(&mut settings, Key::Char('s')), Wish::Stay);
        assert_eq!(settings.sort, Sort::In);
        key(&mut settings, Key::Char('6'));
        assert_eq!(settings.sort, Sort::Rule);
        for c in "/q1".chars() {
            assert_eq!(key(&mut settings, Key::Char(c)), Wish::Stay, "text, while it is typed");
        }
        assert_eq!((settings.filter.as_str(), settings.typing), ("q1", true));
        key(&mut settings, Key::Backspace);
        key(&mut settings, Key::Enter);
        assert_eq!((settings.filter.as_str(), settings.typing), ("q", false));
        key(&mut settings, Key::Up);
        assert_eq!(settings.first, 0);
        key(&mut settings, Key::PageDown);
        assert_eq!(settings.first, 10);
        assert_eq!(key(&mut settings, Key::Tab), Wish::NextStack);
        assert_eq!(key(&mut settings, Key::Char('q')), Wish::Quit);
        settings.typing = true;
        assert_eq!(key(&mut settings, Key::Interrupt), Wish::Quit, "always");
    }
}
