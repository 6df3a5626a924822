//! What inetd does: one TCP socket on 0, 1 and 2 of a program that knows nothing
//! of networks. The client, of 127.0.0.1, is here too.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use forkplan::Command;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (socket, peer) = listener.accept()?;
    println!("{peer} has connected.");

    let mut child = {
        let number = socket.as_raw_fd();
        let mut command = Command::new("sh");
        command
            .args(["-c", "tr a-z A-Z; echo 'that was all' >&2"])
            .fds([0, 1, 2], OwnedFd::from(socket));
        let mut prepared = command.prepare()?;
        let opened = prepared.open()?;
        print!("{}", opened.plan());
        println!("Our {number} ends up as the child's {:?}.", opened.plan().place(number));
        opened.spawn()?
        // Here our copy of the socket is closed.
    };

    client.write_all(b"hello from the client\n")?;
    client.shutdown(Shutdown::Write)?;
    let mut reply = String::new();
    client.read_to_string(&mut reply)?;
    print!("The client reads:\n{reply}");
    let exit = child.wait()?;
    println!("The server's {exit}.");
    match reply == "HELLO FROM THE CLIENT\nthat was all\n" && exit.success() {
        true => Ok(()),
        false => Err("that is not what the program should have said".into()),
    }
}
