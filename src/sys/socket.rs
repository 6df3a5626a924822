//! Sockets with message boundaries, and fds that travel through sockets.

use core::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, recvmsg, sendmsg,
};

use super::{Errno, fd};
use crate::limits::FDS_PER_MESSAGE_MAX;

/// Whether pairs that keep message boundaries can be had with what the pump
/// wants of them. Elsewhere than on Linux they lack one thing or the other:
/// seqpacket at all, or datagrams that outlive a `shutdown`.
pub(crate) const HAS_MESSAGES: bool = cfg!(linux);

/// A kind of socket that keeps message boundaries.
#[derive(Clone, Copy, Debug)]
pub(crate) enum MessageKind {
    Datagram,
    Seqpacket,
}

/// A connected pair of Unix sockets, CLOEXEC from birth.
pub(crate) fn message_pair(kind: MessageKind) -> Result<(OwnedFd, OwnedFd), Errno> {
    #[cfg(linux)]
    {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let kind = match kind {
            MessageKind::Datagram => SocketType::DGRAM,
            MessageKind::Seqpacket => SocketType::SEQPACKET,
        };
        Ok(socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
    }
    #[cfg(not(linux))]
    {
        let _ = kind;
        Err(Errno::OPNOTSUPP)
    }
}

/// What one `recvmsg` got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) len: usize,
    /// The message was longer than the buffer; its end is lost.
    pub(crate) truncated: bool,
    /// Fds came that were not wanted, or for which there was no number.
    pub(crate) fds_lost: bool,
}

/// Receives once; each fd that came with it goes to `accept`, CLOEXEC from birth.
/// Without `accept` the kernel is given no room for fds, so that none is made.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    accept: Option<&mut dyn FnMut(OwnedFd)>,
) -> Result<Received, Errno> {
    #[cfg(not(target_vendor = "apple"))]
    let flags = RecvFlags::CMSG_CLOEXEC;
    #[cfg(target_vendor = "apple")]
    let flags = RecvFlags::empty();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE_MAX))];
    let room = if accept.is_some() { &mut space[..] } else { &mut [] };
    let mut control = RecvAncillaryBuffer::new(room);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg(socket, &mut parts, &mut control, flags)?;
    if let Some(accept) = accept {
        for message in control.drain() {
            let RecvAncillaryMessage::ScmRights(fds) = message else { continue };
            for fd in fds {
                // No flag for it there: a thread that forks between leaks it.
                #[cfg(target_vendor = "apple")]
                rustix::io::ioctl_fioclex(&fd)?;
                accept(fd);
            }
        }
    }
    Ok(Received {
        len: message.bytes,
        truncated: message.flags.contains(ReturnFlags::TRUNC),
        fds_lost: message.flags.contains(ReturnFlags::CTRUNC),
    })
}

/// Sends with fds, which go with the first byte: at most
/// [`FDS_PER_MESSAGE_MAX`]. A peer that is gone is an error and no signal.
pub(crate) fn send_fds(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[OwnedFd],
) -> Result<usize, Errno> {
    let Some(first) = fds.first() else { return fd::send(socket, bytes) };
    let mut lent = [first.as_fd(); FDS_PER_MESSAGE_MAX];
    for (place, fd) in lent.iter_mut().zip(fds) {
        *place = fd.as_fd();
    }
    let lent = lent.get(..fds.len()).ok_or(Errno::INVAL)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(lent)) {
        return Err(Errno::INVAL);
    }
    let parts = [IoSlice::new(bytes)];
    #[cfg(not(target_vendor = "apple"))]
    {
        Ok(sendmsg(socket, &parts, &mut control, SendFlags::NOSIGNAL)?)
    }
    #[cfg(target_vendor = "apple")]
    {
        super::signals::without_sigpipe(|| {
            Ok(sendmsg(socket, &parts, &mut control, SendFlags::empty())?)
        })
    }
}

/// Half-closes a socket: who writes to us gets `EPIPE`. What has arrived stays
/// to be read, on Linux.
pub(crate) fn shutdown_read(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    Ok(rustix::net::shutdown(socket, Shutdown::Read)?)
}

/// The longest message that the socket sends: what its buffer holds, less what
/// the kernel needs for itself.
pub(crate) fn longest_message(socket: BorrowedFd<'_>) -> usize {
    /// Of Linux's `unix_dgram_sendmsg`.
    const KERNELS_OWN: usize = 32;
    let size = rustix::net::sockopt::socket_send_buffer_size(socket);
    size.map_or(usize::MAX, |size| size.saturating_sub(KERNELS_OWN))
}

/// Whether a read of nothing from a seqpacket socket was the end of file, and not
/// an empty message: the peer writes no more, and nothing but empty messages can
/// be left, which no call tells from the end.
pub(crate) fn is_at_end(socket: BorrowedFd<'_>) -> bool {
    #[cfg(linux)]
    {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        // In this order: what is not queued after the peer's last word never is.
        let mut polled = [PollFd::new(&socket, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ended = poll(&mut polled, Some(&now)).is_ok() && !polled[0].revents().is_empty();
        ended && rustix::io::ioctl_fionread(socket) == Ok(0)
    }
    #[cfg(not(linux))]
    {
        let _ = socket;
        true
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;

    fn pair(kind: MessageKind) -> (OwnedFd, OwnedFd) {
        let (ours, theirs) = message_pair(kind).unwrap();
        fd::set_nonblocking(ours.as_fd()).unwrap();
        (ours, theirs)
    }

    fn read(ours: &OwnedFd) -> Result<usize, Errno> {
        receive(ours.as_fd(), &mut [0; 16], None).map(|received| received.len)
    }

    #[test]
    fn an_empty_message_is_told_from_the_end_of_file_while_more_may_come() {
        let (ours, theirs) = pair(MessageKind::Seqpacket);
        for message in [&b""[..], b"", b"x"] {
            fd::send(theirs.as_fd(), message).unwrap();
        }
        assert_eq!(read(&ours), Ok(0));
        assert!(!is_at_end(ours.as_fd()), "the peer may write");
        drop(theirs);
        assert_eq!(read(&ours), Ok(0));
        assert!(!is_at_end(ours.as_fd()), "a message is left");
        assert_eq!(read(&ours), Ok(1));
        assert_eq!(read(&ours), Ok(0));
        assert!(is_at_end(ours.as_fd()));
    }

    #[test]
    fn datagrams_outlive_a_shutdown_and_then_there_is_nothing() {
        let (ours, theirs) = pair(MessageKind::Datagram);
        fd::send(theirs.as_fd(), b"before").unwrap();
        shutdown_read(ours.as_fd()).unwrap();
        assert_eq!(fd::send(theirs.as_fd(), b"after"), Err(Errno::PIPE));
        assert_eq!(read(&ours), Ok(6));
        assert_eq!(read(&ours), Err(Errno::AGAIN));
    }

    #[test]
    fn the_longest_message_goes_through_and_one_byte_more_does_not() {
        for kind in [MessageKind::Datagram, MessageKind::Seqpacket] {
            let (ours, theirs) = pair(kind);
            let mut bytes = vec![0; longest_message(theirs.as_fd())];
            assert_eq!(fd::send(theirs.as_fd(), &bytes), Ok(bytes.len()));
            let mut buffer = bytes.clone();
            let received = receive(ours.as_fd(), &mut buffer, None).unwrap();
            assert_eq!((received.len, received.truncated), (bytes.len(), false));
            bytes.push(0);
            assert_eq!(fd::send(theirs.as_fd(), &bytes), Err(Errno::MSGSIZE));
        }
    }
}
