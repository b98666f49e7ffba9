//! The terminal: raw mode, the window's size, keys, lines. The sequences are those of ECMA-48, which every terminal of
//! today understands.

use super::keys::{Key, parse};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, Write as _};
use std::time::Duration;

/// Another screen, without cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// The screen that was there before, with its cursor.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const TOP_LEFT: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K";

/// The terminal while it is ours; given back however the command ends.
pub(super) struct Terminal {
    before: Termios,
}

impl Terminal {
    /// Takes the terminal of standard input and output.
    pub(super) fn enter() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Flush, &raw)?;
        let terminal = Self { before };
        write(ENTER)?;
        Ok(terminal)
    }

    /// Columns and rows; `None`: not known.
    pub(super) fn size(&self) -> Option<(u16, u16)> {
        let size = tcgetwinsize(stdout()).ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
    }

    /// The keys that are pressed first within `wait`.
    pub(super) fn keys(&mut self, wait: Duration) -> io::Result<Vec<Key>> {
        let input = stdin();
        let mut fds = [PollFd::new(&input, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        match poll(&mut fds, Some(&limit)) {
            Ok(0) => return Ok(Vec::new()),
            // The window has another size, perhaps.
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut bytes = [0; 64];
        match rustix::io::read(input, &mut bytes) {
            Ok(0) => Ok(vec![Key::Interrupt]),
            Ok(n) => Ok(parse(&bytes[..n])),
            Err(rustix::io::Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Shows these lines, which fit into the window.
    pub(super) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        // Cleared first: behind the last column a terminal would clear that column. In raw mode a line feed does not
        // return the carriage.
        let lines = lines.iter().map(|l| format!("{REST_OF_LINE}{l}")).collect::<Vec<_>>().join("\r\n");
        write(&format!("{TOP_LEFT}{lines}"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nobody is left who could be told.
        let _ = write(LEAVE);
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &self.before);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
