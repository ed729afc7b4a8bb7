//! Flow records sent over TLS: read by others where the certificate is right, kept where not.

#![forbid(unsafe_code)]

use core::time::Duration;
use std::path::Path;
use std::process::{Command, Stdio};

use plumb_tests::ipfix_lab::{Lab, compare, end};
use plumb_tests::{Running, require, run};

/// Makes an authority, and a certificate that it signed, for this name.
fn certify(directory: &Path, name: &str) {
    let new = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ];
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        run(command.args(new).args(arguments).current_dir(directory)).expect(0);
    };
    openssl(&[
        "-subj",
        "/CN=authority",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
    ]);
    openssl(&[
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-subj",
        "/CN=collector",
        "-addext",
        &format!("subjectAltName={name}"),
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        "key.pem",
        "-out",
        "certificate.pem",
    ]);
}

/// Starts a collector for TLS that has this certificate, and waits until it listens.
fn collector(lab: &Lab, more: &[&str]) -> Running {
    let certificate = ["-cert", "certificate.pem", "-key", "key.pem"];
    let mut command = lab.chain.command(1, "openssl");
    command
        .args(["s_server", "-accept", "4740"])
        .args(certificate)
        .args(more)
        .current_dir(lab.directory.path())
        // It ends with its own input.
        .stdin(Stdio::piped());
    let mut collector = Running::start(&mut command);
    collector.wait_until(|out, _| out.contains("ACCEPT"));
    collector
}

#[test]
fn root_tls_is_spoken_with_openssl_and_tshark_reads_what_is_in_it() {
    require!("ip", "tcpdump", "tshark", "openssl");
    let lab = Lab::new(300);
    let target = lab.chain.target(true);
    certify(lab.directory.path(), &format!("IP:{target}"));
    let verify = ["-naccept", "1", "-Verify", "1", "-CAfile", "ca.pem"];
    let collector = collector(&lab, &verify);
    let mut capture = lab.capture("tcp port 4740");
    let (ca, certificate, key) = (
        lab.file("ca.pem"),
        lab.file("certificate.pem"),
        lab.file("key.pem"),
    );
    let options = [
        "--export-ca",
        &ca,
        "--export-certificate",
        &certificate,
        "--export-key",
        &key,
    ];
    lab.export(true, ",tls", &options);
    collector.finish(Duration::from_secs(30)).expect(0);
    capture.wait_until(|out, _| out.contains("Flags [F"));
    end(capture, "INT");

    let mut command = Command::new("tshark");
    command
        .args([
            "-r",
            &lab.file("cap.pcap"),
            "-d",
            "tcp.port==4740,tls",
            "-q",
        ])
        .args(["-o", &format!("tls.keylog_file:{}", lab.file("keys"))])
        .args(["-z", "follow,tls,raw,0"]);
    let followed = run(&mut command).expect(0).stdout;
    let hex: String = followed
        .lines()
        .filter(|line| line.trim().bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(str::trim)
        .collect();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    let decrypted = lab.directory.write("decrypted.ipfix", bytes);
    compare(&lab.profiles, decrypted.to_str().unwrap(), &[]);
}

#[test]
fn root_a_collector_with_another_name_gets_nothing() {
    require!("ip", "openssl");
    let lab = Lab::new(1);
    certify(lab.directory.path(), "DNS:collector.example");
    let collector = collector(&lab, &[]);
    let flows = lab.file("flows.ndjson");
    let to = format!("ipfix://{},tls", lab.chain.target(true));
    let ca = lab.file("ca.pem");
    let mut command = lab
        .chain
        .plumb(&["export", &flows, "--to", &to, "--export-ca", &ca]);
    let done = run(&mut command).expect(5);
    assert!(done.stderr.contains("not valid for name"), "{done}");
    assert!(
        done.stderr
            .contains("0 records sent in 0 messages, 1 not sent"),
        "{done}"
    );
    drop(collector);
}
