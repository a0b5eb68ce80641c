//! The command line as an administrator meets it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use rollcall_tests::Instance;
use rollcall_tests::district;
use rollcall_tests::instance::binary;

#[test]
fn every_command_has_help_and_wrong_use_has_its_exit_code() -> Result<()> {
    let commands: [&[&str]; 12] = [
        &["serve"],
        &["demo"],
        &["simulate"],
        &["migrate"],
        &["import", "oneroster"],
        &["account", "add"],
        &["device", "add"],
        &["device", "list"],
        &["badge", "issue"],
        &["doctor"],
        &["import"],
        &["device"],
    ];
    for command in commands {
        let output = Command::new(binary()?).args(command).arg("--help").output()?;
        ensure!(output.status.success(), "{command:?} --help failed");
        ensure!(String::from_utf8_lossy(&output.stdout).contains("Usage:"), "{command:?} --help says nothing");
    }
    let wrong = Command::new(binary()?).args(["serve", "--htpp", "x"]).output()?;
    ensure!(wrong.status.code() == Some(2), "a wrong flag ended with {}", wrong.status);
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("own.toml"), "htp = \"x\"\n")?;
    let unknown = Command::new(binary()?).args(["serve", "--config"]).arg(dir.path().join("own.toml")).output()?;
    ensure!(unknown.status.code() == Some(2) && String::from_utf8_lossy(&unknown.stderr).contains("htp"), "{unknown:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_with_problems_changes_nothing_and_names_them() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let instance = Instance::start(dir.path())?;
    let district = district::synthetic(&instance, dir.path(), "Commands", 10)?;
    let listed = instance.json(&["device", "list", "--district", "Commands", "--json"], "")?;
    ensure!(listed.to_string().contains(&district.gate.id) && !listed.to_string().contains(&district.gate.token), "{listed}");
    let many =
        ["device", "add", "--district", "Commands", "--school", &district.school, "--kind", "tablet", "--name", "Cart", "--count", "3"];
    let added = instance.command(&[&many[..], &["--json"]].concat(), "")?;
    let listed = instance.json(&["device", "list", "--district", "Commands", "--json"], "")?.to_string();
    ensure!(added.lines().count() == 3 && ["Cart 1", "Cart 2", "Cart 3"].iter().all(|name| listed.contains(name)), "{added}{listed}");

    let broken = dir.path().join("broken");
    std::fs::create_dir(&broken)?;
    std::fs::write(broken.join("manifest.csv"), "propertyName,value\nmanifest.version,1.0\noneroster.version,1.1\nfile.orgs,bulk\n")?;
    std::fs::write(broken.join("orgs.csv"), "sourcedId,status,dateLastModified,name,type,identifier,parentSourcedId\n,,,No Id,school,,\n")?;
    let output = Command::new(binary()?)
        .args(["import", "oneroster"])
        .arg(&broken)
        .args(["--district", "Broken", "--json", "--data-dir"])
        .arg(dir.path())
        .output()?;
    ensure!(output.status.code() == Some(3), "a refused import ended with {}", output.status);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).context("the report is no JSON")?;
    let problems = report["problems"].as_array().context("no problems")?;
    ensure!(
        problems.iter().any(|problem| problem["file"] == "orgs.csv" && problem["line"] == 2 && problem["column"] == "sourcedId"),
        "{report}"
    );
    let doctor = instance.json(&["doctor", "--json"], "")?;
    ensure!(doctor["findings"].is_array(), "{doctor}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_folder_or_port_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut instance = Instance::start(dir.path())?;
    let same_folder =
        Command::new(binary()?).args(["serve", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0", "--data-dir"]).arg(dir.path()).output()?;
    ensure!(!same_folder.status.success(), "two servers shared a folder");
    let other = tempfile::tempdir()?;
    let http = instance.http.trim_start_matches("http://").to_owned();
    let same_port =
        Command::new(binary()?).args(["serve", "--mqtt", "127.0.0.1:0", "--http", &http, "--data-dir"]).arg(other.path()).output()?;
    let said = String::from_utf8_lossy(&same_port.stderr).into_owned();
    ensure!(!same_port.status.success() && said.contains(&http), "the taken port is not named: {said}");
    ensure!(instance.stop()?, "an orderly stop ends with exit code 0");
    Ok(())
}
