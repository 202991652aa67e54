//! What escaped native code would try, done after the lockdown. Prints one line each:
//! the attempt's name, and `refused` or `worked`.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, ExitCode};

use teahouse_programs::child::Lockdown;

pub(crate) fn main() -> ExitCode {
    // Held open from before, as an inherited descriptor would be.
    let before = File::open("/etc/passwd");
    #[cfg(unix)]
    let parent = rustix::process::getppid();
    let sandbox = Lockdown::files().calls();
    println!("landlock {}", sandbox.landlock);
    println!("seccomp {}", sandbox.seccomp);
    println!("limits {}", sandbox.limits);

    tell("read a file", File::open("/etc/passwd").is_ok());
    let read = before.is_ok_and(|mut file| file.read(&mut [0; 16]).is_ok());
    tell("read an open file", read);
    tell("make a file", File::create("/tmp/teahouse-probe").is_ok());
    tell("list a folder", std::fs::read_dir("/").is_ok());
    tell("read /proc", std::fs::read("/proc/self/environ").is_ok());
    tell("tcp socket", TcpStream::connect("127.0.0.1:9").is_ok_and(|_| true));
    tell("tcp listener", TcpListener::bind("127.0.0.1:0").is_ok());
    tell("udp socket", UdpSocket::bind("127.0.0.1:0").is_ok());
    #[cfg(unix)]
    tell("unix socket", std::os::unix::net::UnixDatagram::unbound().is_ok());
    #[cfg(unix)]
    tell(
        "signal another process",
        parent.is_some_and(|parent| rustix::process::test_kill_process(parent).is_ok()),
    );
    tell("start a process", Command::new("/bin/true").status().is_ok());
    tell("start a thread", std::thread::Builder::new().spawn(|| ()).is_ok());
    tell("a pipe", std::io::pipe().is_ok());
    let flushed = std::io::stdout().flush().is_ok();
    tell("write standard output", flushed);
    ExitCode::SUCCESS
}

fn tell(attempt: &str, worked: bool) {
    println!("{attempt}: {}", if worked { "worked" } else { "refused" });
}
