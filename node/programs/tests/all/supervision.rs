//! A child that dies, hangs, lies or can't be started is a child: the host stays.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use teahouse_programs::{Host, HostCommand, ProgramError};

use crate::support::{host, open, run, start, texts};

const PROGRAM: &str = r#"import { page, text } from "teahouse";
    export const update = () => page("", text("fine"));"#;

fn signal(host: &Host, signal: &str) {
    let process = host.status().expect("a child runs").process.to_string();
    let done = Command::new("kill").args([signal, &process]).status();
    assert!(done.is_ok_and(|status| status.success()));
}

#[tokio::test]
async fn a_killed_child_is_replaced() {
    let host = host();
    let (mut one, _) = run(&host, PROGRAM).await.unwrap();
    let (mut two, _) = run(&host, PROGRAM).await.unwrap();
    let first = host.status().unwrap().process;
    signal(&host, "-KILL");
    assert_eq!(one.update(Vec::new()).await, Err(ProgramError::HostDied));
    assert_eq!(two.update(Vec::new()).await, Err(ProgramError::HostDied));
    assert_eq!(host.status(), None);
    let (mut again, view) = run(&host, PROGRAM).await.unwrap();
    assert_eq!(texts(&view), ["fine"]);
    assert_ne!(host.status().unwrap().process, first);
    // The old handles stay what they are, and closing them closes no new program.
    assert_eq!(one.update(Vec::new()).await, Err(ProgramError::HostDied));
    one.close();
    drop(two);
    assert_eq!(texts(&again.update(Vec::new()).await.unwrap()), ["fine"]);
}

#[tokio::test]
async fn a_child_killed_in_the_middle_of_an_update_is_replaced() {
    let host = host();
    let slow = r#"import { page } from "teahouse";
        export const update = ([event]) => { if (!event) for (;;); return page(""); };"#;
    for _ in 0..3 {
        let (mut program, _) = run(&host, slow).await.unwrap();
        let process = host.status().unwrap().process.to_string();
        let kill = tokio::task::spawn_blocking(move || {
            std::thread::sleep(Duration::from_millis(10));
            Command::new("kill").args(["-KILL", &process]).status()
        });
        let error = program.update(Vec::new()).await.unwrap_err();
        assert!(matches!(error, ProgramError::HostDied | ProgramError::TookTooLong), "{error}");
        _ = kill.await;
        assert_eq!(program.update(Vec::new()).await, Err(ProgramError::HostDied));
    }
}

#[tokio::test]
async fn updates_wait_for_each_other() {
    let host = host();
    let mut programs = Vec::new();
    for _ in 0..8 {
        programs.push(open(&host, PROGRAM).await.unwrap());
    }
    let runs = programs.into_iter().map(|mut program| {
        tokio::spawn(async move {
            for _ in 0..50 {
                program.update(start()).await.unwrap();
            }
        })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap();
    }
}

#[tokio::test]
async fn an_update_that_nobody_waits_for_does_no_harm() {
    let host = host();
    let (mut program, _) = run(&host, PROGRAM).await.unwrap();
    for _ in 0..20 {
        // Given up before the answer is there.
        _ = tokio::time::timeout(Duration::ZERO, program.update(Vec::new())).await;
    }
    // Busy until the last of them is answered.
    let view = loop {
        match program.update(Vec::new()).await {
            Err(ProgramError::Busy) => tokio::task::yield_now().await,
            other => break other.unwrap(),
        }
    };
    assert_eq!(texts(&view), ["fine"]);
    for _ in 0..100 {
        _ = tokio::time::timeout(Duration::ZERO, open(&host, PROGRAM)).await;
    }
    let view = loop {
        match run(&host, PROGRAM).await {
            Err(ProgramError::Busy) => tokio::time::sleep(Duration::from_millis(5)).await,
            other => break other.unwrap().1,
        }
    };
    assert_eq!(texts(&view), ["fine"]);
}

async fn with(program: &str, args: &[&str]) -> Result<(), ProgramError> {
    let args = args.iter().map(Into::into).collect();
    let host = Host::new(HostCommand { program: PathBuf::from(program), args });
    run(&host, PROGRAM).await.map(|_| ())
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_no_child_is_told_in_words() {
    let error = with("/no/such/program", &[]).await.unwrap_err();
    assert!(matches!(error, ProgramError::CannotStart(_)), "{error}");
    let error = with("/bin/sh", &["-c", "echo 'no libc' >&2; exit 1"]).await.unwrap_err();
    assert!(error.to_string().contains("programs can't run on this machine"), "{error}");
    let error = with("/bin/sh", &["-c", "head -c 100000 /dev/urandom"]).await.unwrap_err();
    assert!(matches!(error, ProgramError::CannotStart(_)), "{error}");
    // A frame of 4 GiB is promised; standard error is flooded.
    let flood = "yes >&2 & printf '\\377\\377\\377\\377'; sleep 1; kill $!";
    let error = with("/bin/sh", &["-c", flood]).await.unwrap_err();
    assert!(matches!(error, ProgramError::CannotStart(_)), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn the_child_ends_with_its_host() {
    let host = host();
    let (program, _) = run(&host, PROGRAM).await.unwrap();
    let process = host.status().unwrap().process.to_string();
    let lives = || Command::new("kill").args(["-0", &process]).output().unwrap().status.success();
    assert!(lives());
    drop(program);
    drop(host);
    for _ in 0..200 {
        if !lives() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the child outlives its host");
}
