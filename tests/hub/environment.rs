//! What the environment says of the network: whether there is one, by which proxies, and with which token.

use std::time::Duration;

use glm2llama::hub::{Address, Caller, Client, Pace, Repository};

use super::Hub;
use super::server::TOKEN;
use crate::support::command::convert;

#[test]
fn offline_is_offline_in_every_spelling() {
    let hub = Hub::new();
    for value in ["1", "true", "True", "TRUE", "yes", "YES", "on", "On", " 1 ", "y", "2"] {
        for run in [
            hub.command("plan").arg("hf://a/b"),
            hub.command("convert").arg("ms://a/b").args(&["--output", "m.gguf"]),
            hub.command("inspect").arg("hf://a/b/m.gguf"),
            hub.command("plan").arg(hub.model()).args(&["--lora", "hf://a/b"]),
        ] {
            let error = run.env("HF_HUB_OFFLINE", value).exit_with(2).stderr;
            assert!(error.contains("HF_HUB_OFFLINE is set, which forbids the network"), "{value}: {error}");
        }
    }
    assert!(hub.server.seen().is_empty(), "{:?}", hub.server.seen());
    for value in ["0", "false", "No", "OFF", ""] {
        hub.command("plan").arg("hf://a/b").env("HF_HUB_OFFLINE", value).succeed();
    }
}

/// A hub that only the proxy knows.
#[test]
fn each_proxy_is_for_its_scheme() {
    for (hub, scheme) in [(Hub::new(), "http"), (Hub::new().over_tls(), "https")] {
        let proxy = hub.server.start_proxy();
        let dead = "http://127.0.0.1:9";
        let run = |variables: &[(&str, &str)]| {
            hub.server.state.seen.lock().unwrap().clear();
            let run = hub.command("plan").arg("hf://a/b");
            variables.iter().fold(run, |run, (name, value)| run.env(name, value)).run()
        };
        let bare = proxy.strip_prefix("http://").unwrap();
        let (own, other) =
            if scheme == "http" { ("http_proxy", "https_proxy") } else { ("https_proxy", "http_proxy") };
        let upper = own.to_uppercase();
        for variables in [
            &[(own, proxy.as_str()), (other, dead)][..],
            &[(&upper, proxy.as_str()), ("all_proxy", dead)],
            &[("ALL_PROXY", proxy.as_str())],
            &[("all_proxy", bare)],
            &[(own, dead), ("no_proxy", "example.com, 127.0.0.1 .localhost")],
            &[(own, dead), ("NO_PROXY", "*")],
            &[(own, dead), ("NO_PROXY", "127.0.0.0/8,localhost")],
            &[(other, dead)],
        ] {
            let before = hub.server.tunnels();
            let run = run(variables);
            assert_eq!(run.code, Some(0), "{variables:?}: {}", run.stderr);
            let by_proxy = variables.iter().any(|(_, value)| value.ends_with(bare));
            assert_eq!(hub.server.tunnels() > before, by_proxy, "{variables:?}");
        }
        for (name, value) in [(own, "me:secret@ftp://x"), ("ALL_PROXY", "gopher://me:secret@x")] {
            let run = run(&[(name, value)]);
            assert_eq!(run.code, Some(2), "{}", run.stderr);
            assert!(
                run.stderr.contains(&format!("{name}: found an address that is no proxy's")),
                "{}",
                run.stderr
            );
            assert!(!run.stderr.contains("secret") && hub.server.seen().is_empty(), "{}", run.stderr);
        }
    }
}

#[test]
fn a_secret_in_an_address_is_not_shown() {
    let hub = Hub::new().over_tls();
    for address in ["https://me:secret@hub.example", "http://secret@127.0.0.1:1/x"] {
        let error = hub.command("plan").env("HF_ENDPOINT", address).arg("hf://a/b").exit_with(2).stderr;
        assert!(error.contains("HF_ENDPOINT: found an address with a name"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    // Nor is a proxy's password, when nobody answers there; nor a token.
    for proxy in
        ["http://me:secret@127.0.0.1:9", "socks5://me:secret@127.0.0.1:9", "me:secret@proxy.invalid:1"]
    {
        let variable = |name: &str| match name {
            "HF_ENDPOINT" => Some("https://hub.invalid".into()),
            "HF_TOKEN" => Some(TOKEN.into()),
            "SSL_CERT_FILE" => hub.authority.clone().map(Into::into),
            "ALL_PROXY" => Some(proxy.into()),
            _ => None,
        };
        let pace = Pace { first_pause: Duration::from_millis(1), most_failures: 2, ..Pace::default() };
        let address = Address::of_model("hf://a/b").unwrap();
        let client = Client::new(address.hub, &variable, pace, Caller::default()).unwrap();
        let shown = format!("{client:?}");
        let error = Repository::open(client, &address).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("gave up after 2 failures"), "{error}");
        for text in [error, shown] {
            assert!(!text.contains("secret") && !text.contains(TOKEN), "{text}");
        }
    }
}

/// Commands that read no hub say so, and what to do.
#[test]
fn other_commands_say_what_to_do() {
    let hub = Hub::new();
    convert(&hub.model(), "Q8_0", &hub.dir.join("m.gguf"), &[]);
    let run = |arguments: &[&str], words: &[&str]| {
        let run = hub.command(arguments[0]).args(&arguments[1..]);
        let error = run.exit_with(2).stderr;
        assert!(
            words.iter().all(|word| error.contains(word)) && error.trim().lines().count() == 1,
            "{error}"
        );
    };
    let told = &[
        "hf://a/b: found it in no download cache, and only convert, plan and inspect read a hub",
        "`glm2llama convert hf://a/b --keep DIR`",
        "give a/b with HF_HUB_CACHE=DIR",
    ];
    run(&["verify", "hf://a/b", "m.gguf"], told);
    run(&["export-hf", "hf://a/b", "out"], told);
    run(&["imatrix", "hf://a/b", "--output", "i.gguf"], told);
    run(&["verify", "ms://a/b@v1", "m.gguf"], &["convert ms://a/b@v1 --keep DIR`", "MODELSCOPE_CACHE=DIR"]);
    let model = hub.model();
    let model = model.to_str().unwrap();
    run(
        &["export-hf", model, "out", "--lora", "hf://a/b=0.5"],
        &["--lora: found hf://a/b=0.5, and only convert and plan"],
    );
    assert!(hub.server.seen().is_empty());
}
