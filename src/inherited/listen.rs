//! Sockets handed over as systemd does: `sd_listen_fds(3)`.

extern crate std;

use std::borrow::ToOwned;
use std::env;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::string::String;
use std::vec::Vec;

use super::{Inherited, InheritedError};
use crate::sys::process::own_pid;

/// `SD_LISTEN_FDS_START`
const FIRST: i32 = 3;

const PID: &str = "LISTEN_PID";
const FDS: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";

/// What the name of each is where there are none, as `sd_listen_fds_with_names(3)`
/// has it.
const UNNAMED: &str = "unknown";

impl Inherited {
    /// Takes the sockets that a service manager has handed to this process, with
    /// their names, in order: fds from 3 on, as many as `LISTEN_FDS` says.
    /// `sd_listen_fds(3)`. Its other side is
    /// [`Command::listen_fds`](crate::Command::listen_fds).
    ///
    /// None if the variables are not there or `LISTEN_PID` names another process,
    /// for which they are then meant. Without `LISTEN_FDNAMES` each is called
    /// "unknown". Variables that make no sense are an error and so is an fd that
    /// is not there; nothing is taken then. Of what kind they are is not checked
    /// (a unit may hand over FIFOs, files and stored fds): see
    /// [`FdKind::of`](crate::FdKind::of).
    ///
    /// The variables stay. What this program starts inherits them, and sees by the
    /// pid that they are not for it.
    ///
    /// ```
    /// use forkplan::{Channel, Command, Inherited};
    /// use std::net::TcpListener;
    ///
    /// if std::env::var_os("LISTEN_FDS").is_some() {
    ///     // SAFETY: the first thing that this program does.
    ///     let mut inherited = unsafe { Inherited::new() }?;
    ///     for (name, fd) in inherited.listen_fds()? {
    ///         println!("{name} listens at {}", TcpListener::from(fd).local_addr()?);
    ///     }
    ///     return Ok(());
    /// }
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut server = Command::new(std::env::current_exe()?);
    /// server.stdout(Channel::ReadPipe).listen_fds([("http", Channel::borrowed(&listener))]);
    /// let mut server = server.spawn()?;
    /// let said = std::io::read_to_string(std::fs::File::from(server.take(1).unwrap()))?;
    /// assert!(said.contains(&format!("http listens at {}", listener.local_addr()?)));
    /// assert!(server.wait()?.success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn listen_fds(&mut self) -> Result<Vec<(String, OwnedFd)>, InheritedError> {
        let (count, names) = announced([PID, FDS, NAMES].map(env::var_os), own_pid())?;
        let numbers = FIRST..FIRST + count;
        for fd in numbers.clone() {
            self.find(fd)?;
        }
        let names: Vec<String> = match names {
            Some(names) => names.split(':').map(ToOwned::to_owned).collect(),
            None => numbers.clone().map(|_| UNNAMED.to_owned()).collect(),
        };
        names.into_iter().zip(numbers).map(|(name, fd)| Ok((name, self.own(fd)?))).collect()
    }
}

/// How many, and their names as they were said: as many, if any.
fn announced(
    variables: [Option<OsString>; 3],
    own_pid: i32,
) -> Result<(i32, Option<String>), InheritedError> {
    let [Some(pid), Some(count), names] = variables else { return Ok((0, None)) };
    if number(PID, pid, "not a process id", 1)? != own_pid {
        return Ok((0, None));
    }
    let count = number(FDS, count, "not a number of fds", 0)?;
    if count > i32::MAX - FIRST {
        let value = std::format!("{count}");
        return Err(InheritedError::Variable { name: FDS, value, problem: "too many" });
    }
    let names = names.map(|names| text(NAMES, names)).transpose()?;
    match names {
        // No names, of none: it is the same string as one name without letters.
        Some(names) if count == 0 && names.is_empty() => Ok((0, None)),
        Some(names) if names.split(':').count() != count as usize => {
            let problem = "not as many names as LISTEN_FDS says";
            Err(InheritedError::Variable { name: NAMES, value: names, problem })
        }
        names => Ok((count, names)),
    }
}

fn text(name: &'static str, value: OsString) -> Result<String, InheritedError> {
    value.into_string().map_err(|value| {
        let value = value.to_string_lossy().into_owned();
        InheritedError::Variable { name, value, problem: "not UTF-8" }
    })
}

/// Digits and nothing else, `lowest` or above.
fn number(
    name: &'static str,
    value: OsString,
    problem: &'static str,
    lowest: i32,
) -> Result<i32, InheritedError> {
    let value = text(name, value)?;
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(number) if digits && number >= lowest => Ok(number),
        _ => Err(InheritedError::Variable { name, value, problem }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    type Announced = Result<(i32, Option<String>), InheritedError>;

    fn ask(pid: &str, fds: &str, names: Option<&str>) -> Announced {
        announced([Some(pid.into()), Some(fds.into()), names.map(Into::into)], 77)
    }

    fn problem(pid: &str, fds: &str, names: Option<&str>) -> String {
        ask(pid, fds, names).unwrap_err().to_string()
    }

    #[test]
    fn names_are_as_many_as_fds_or_none_at_all() {
        assert_eq!(ask("77", "2", Some("a:b")), Ok((2, Some("a:b".to_string()))));
        assert_eq!(ask("77", "2", None), Ok((2, None)));
        assert_eq!(ask("77", "1", Some("")), Ok((1, Some(String::new()))));
    }

    #[test]
    fn nothing_is_meant_for_us_without_the_variables_or_with_another_pid() {
        let none = Ok((0, None));
        assert_eq!(announced([None, Some("1".into()), None], 77), none);
        assert_eq!(announced([Some("77".into()), None, None], 77), none);
        assert_eq!(ask("78", "2", Some("a:b")), none);
        // What is for somebody else is for somebody else to read.
        assert_eq!(ask("78", "many", Some("a:b:c")), none);
        assert_eq!(ask("77", "0", None), none);
        assert_eq!(ask("77", "0", Some("")), none);
    }

    #[test]
    fn what_makes_no_sense_is_an_error_that_names_the_variable() {
        for pid in ["", "self", "-77", "+77", " 77", "0", "99999999999"] {
            assert_eq!(
                problem(pid, "1", None),
                std::format!("LISTEN_PID={pid:?}: not a process id")
            );
        }
        for fds in ["", "two", "-1", "+1", "1 ", "99999999999"] {
            let said = std::format!("LISTEN_FDS={fds:?}: not a number of fds");
            assert_eq!(problem("77", fds, None), said);
        }
        assert_eq!(problem("77", "2147483647", None), "LISTEN_FDS=\"2147483647\": too many");
        for (fds, said) in [("2", "a"), ("1", "a:b"), ("2", ""), ("0", "a")] {
            let problem = problem("77", fds, Some(said));
            assert!(problem.starts_with("LISTEN_FDNAMES="), "{problem}");
        }
    }
}
