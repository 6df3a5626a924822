//! Process spawning planned before the fork.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod channel;
mod child;
mod command;
mod limits;
pub mod plan;
mod postfork;
mod pump;
mod signal;
mod spawn;
mod sys;

pub use crate::channel::{Channel, Name, Open, OpenFile, Source};
pub use crate::child::{Child, Exit, OnDrop, SignalError, Usage};
pub use crate::command::{Command, PlanError};
pub use crate::plan::Plan;
pub use crate::pump::{ChannelError, ChildKey, CloseReason, Event, Pump};
pub use crate::signal::{Signal, UnknownSignal};
pub use crate::spawn::{Opened, Prepared, SpawnError};
pub use crate::sys::Features;
