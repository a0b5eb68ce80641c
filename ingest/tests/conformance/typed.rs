//! Both versions by mosquitto_pub and mosquitto_sub, as a person would type it.

use std::collections::VecDeque;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::clients::patiently;
use crate::harness::Server;
use crate::open;

fn command(program: &str, server: &Server, version: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &server.port.to_string(), "-V", version]).args(arguments).kill_on_drop(true);
    command
}

async fn publish(server: &Server, version: &str, arguments: &[&str]) {
    let status = patiently("mosquitto_pub", command("mosquitto_pub", server, version, arguments).status()).await.unwrap();
    assert!(status.success(), "{version} {arguments:?}");
}

/// A mosquitto_sub.
struct Subscriber {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Messages that came before it was known to have its subscriptions.
    early: VecDeque<String>,
}

/// Runs until it has its subscriptions. It writes what it hears when a message comes, so it also asks for one that is retained.
async fn subscriber(server: &Server, version: &str, arguments: &[&str]) -> Subscriber {
    publish(server, version, &["-t", "ready", "-r", "-q", "1", "-m", "ready"]).await;
    let all = [arguments, &["-t", "ready"]].concat();
    let mut child = command("mosquitto_sub", server, version, &all).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut subscriber = Subscriber { child, lines, early: VecDeque::new() };
    loop {
        let line = subscriber.line().await;
        if line.contains("ready") {
            return subscriber;
        }
        subscriber.early.push_back(line);
    }
}

impl Subscriber {
    async fn line(&mut self) -> String {
        patiently("a line", self.lines.next_line()).await.unwrap().expect("mosquitto_sub ended early")
    }

    /// The next message but those by which others find out that they have their subscriptions.
    async fn message(&mut self) -> String {
        loop {
            let message = match self.early.pop_front() {
                Some(early) => early,
                None => self.line().await,
            };
            if !message.contains("ready") {
                return message;
            }
        }
    }
}

#[tokio::test]
async fn messages_of_every_qos_arrive() {
    let server = open().await;
    for version in ["mqttv311", "mqttv5"] {
        let mut there = subscriber(&server, version, &["-t", "a/#", "-q", "2", "-F", "%t %q %p"]).await;
        for qos in ["0", "1", "2"] {
            publish(&server, version, &["-t", "a/b", "-q", qos, "-m", version]).await;
            assert_eq!(there.message().await, format!("a/b {qos} {version}"));
        }
    }
}

#[tokio::test]
async fn retained_properties_and_responses() {
    let server = open().await;
    let property = ["-D", "publish", "user-property", "room", "12", "-D", "publish", "content-type", "text/plain"];
    publish(&server, "mqttv5", &[&["-t", "r", "-r", "-q", "1", "-m", "kept"][..], &property].concat()).await;
    let mut there = subscriber(&server, "mqttv5", &["-t", "r", "-q", "1", "-F", "%p %r %C %P"]).await;
    assert_eq!(there.message().await, "kept 1 text/plain room:12");
    let mut old = subscriber(&server, "mqttv311", &["-t", "r", "-q", "1", "-F", "%p %r"]).await;
    assert_eq!(old.message().await, "kept 1", "properties are left out for a client that has none");
}

#[tokio::test]
async fn a_killed_client_leaves_its_will_and_its_session() {
    let server = open().await;
    for version in ["mqttv311", "mqttv5"] {
        let mut watcher = subscriber(&server, version, &["-t", "will", "-F", "%p"]).await;
        let session = ["-i", version, "-c", "-x", "60", "-q", "1", "-t", "cmd", "-F", "%p"];
        // -x is of MQTT 5 only.
        let session: Vec<_> = session.into_iter().filter(|part| version == "mqttv5" || !["-x", "60"].contains(part)).collect();
        let will = [&session[..], &["--will-topic", "will", "--will-payload", version]].concat();
        let mut killed = subscriber(&server, version, &will).await;
        killed.child.kill().await.unwrap();
        assert_eq!(watcher.message().await, version);
        publish(&server, version, &["-t", "cmd", "-q", "1", "-m", "open"]).await;
        let mut again = subscriber(&server, version, &session).await;
        assert_eq!(again.message().await, "open");
    }
}
