//! Hosts join a mesh.

use std::time::{Duration, Instant};

use mesh_lab::{Capture, story, wait};

/// What is promised to users.
const VISIBLE_WITHIN: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn a_newcomer_is_visible_everywhere_at_once() {
    story("join", |lab| {
        let [a, b, c] = lab.hosts(["a", "b", "c"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_sees_all()?;
        let daemon = c.meshd("")?;
        mesh.join(&c, daemon)?;
        let joined = Instant::now();
        for host in [&a, &b] {
            let left = VISIBLE_WITHIN.saturating_sub(joined.elapsed());
            wait::until(left, &format!("{} sees c", host.name()), || {
                host.peers().is_ok_and(|peers| peers.iter().any(|peer| peer["name"] == "c"))
            })?;
        }
        mesh.everyone_sees_all()?;
        mesh.everyone_reaches_all()
    });
}

#[test]
fn members_of_another_mesh_see_none_of_them() {
    story("two-meshes", |lab| {
        let [a, b, c, d] = lab.hosts(["a", "b", "c", "d"])?;
        let clinics = lab.mesh("clinics", &[&a, &b])?;
        let labs = lab.mesh("labs", &[&c, &d])?;
        clinics.everyone_sees_all()?;
        labs.everyone_sees_all()?;
        for (host, other) in [(&a, "b"), (&b, "a"), (&c, "d"), (&d, "c")] {
            let peers = host.peers()?;
            let names: Vec<&str> = peers.iter().filter_map(|peer| peer["name"].as_str()).collect();
            assert_eq!(names, [other]);
        }
        Ok(())
    });
}

#[test]
fn a_tunnel_carries_both_families_and_meshctl_names_its_path() {
    story("tunnel", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        let from = mesh.member("b")?;
        let to = mesh.member("a")?;
        from.reaches(DEADLINE, &to.addr4.to_string())?;
        from.reaches(DEADLINE, &to.addr6.to_string())?;
        let reply = b.ctl(&["ping", "a", "-c", "1"])?.ok()?;
        assert_eq!(reply["name"], "a");
        assert!(reply["path"].as_str().is_some_and(|path| path.starts_with("udp ")), "{reply}");
        Ok(())
    });
}

#[test]
fn every_verb_answers_in_json_with_a_schema_name() {
    story("schemas", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_sees_all()?;
        for line in [&["status"][..], &["peers"], &["config", "show"], &["invite"]] {
            let reply = a.ctl(line)?.ok()?;
            assert!(
                reply["schema"].as_str().is_some_and(|name| name.starts_with("meshd.")),
                "{line:?}: {reply}"
            );
        }
        Ok(())
    });
}

#[test]
fn who_leaves_is_forgotten_and_may_come_back() {
    story("leave", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_sees_all()?;
        b.ctl(&["leave"])?.ok()?;
        wait::until(DEADLINE, "a no longer counts b as a member", || {
            a.peers().is_ok_and(|peers| peers.iter().all(|peer| peer["state"] == "revoked"))
        })?;
        let token = mesh.token()?;
        b.ctl(&["join", &token])?.ok()?;
        wait::until(DEADLINE, "a counts b as a member again", || {
            a.peers().is_ok_and(|peers| peers.iter().any(|peer| peer["state"] != "revoked"))
        })
    });
}

#[test]
fn a_host_joins_by_files_without_reaching_the_steward() {
    story("join-by-file", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let status = a.ctl(&["status"])?.ok()?;
        let (Some(mesh_id), Some(org_id)) =
            (status["mesh"]["id"].as_str(), status["mesh"]["organisations"][0]["id"].as_str())
        else {
            anyhow::bail!("no ids in {status}");
        };
        lab.internet().cut(a.number(), b.number())?;
        let _daemon = b.meshd("")?;
        let request = lab.dir().join("request").display().to_string();
        let answer = lab.dir().join("answer").display().to_string();
        b.ctl(&["join", "--request", &request, "--mesh", mesh_id, "--org", org_id])?.ok()?;
        a.ctl(&["admit", &request, "--out", &answer])?.ok()?;
        let member = b.ctl(&["join", "--import", &answer])?.ok()?;
        assert_eq!(member["node"]["name"], "b");
        lab.internet().heal(a.number(), b.number())?;
        wait::until(DEADLINE, "a lists b", || a.peers().is_ok_and(|peers| peers.len() == 1))?;
        mesh.steward()?.reaches(DEADLINE, member["node"]["addr4"].as_str().unwrap_or_default())
    });
}

#[test]
fn of_many_who_race_for_one_token_one_enters() {
    story("token-race", |lab| {
        let [a, b, c, d] = lab.hosts(["a", "b", "c", "d"])?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let token = mesh.token()?;
        let racers = [&b, &c, &d];
        let _daemons = racers.map(|host| host.meshd("")).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let codes = std::thread::scope(|scope| {
            let joins =
                racers.map(|host| scope.spawn(|| host.ctl(&["join", &token]).map(|reply| reply.code)));
            joins.map(|join| join.join().map_or(-1, |code| code.unwrap_or(-1)))
        });
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
        assert_eq!(codes.iter().filter(|code| **code == 4).count(), 2, "{codes:?}");
        assert_eq!(a.peers()?.len(), 1);
        Ok(())
    });
}

#[test]
fn the_token_never_crosses_the_wire() {
    story("token-secret", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        let capture = Capture::start(&b)?;
        let token = mesh.token()?;
        let daemon = b.meshd("")?;
        b.ctl(&["join", &token])?.ok()?;
        assert!(daemon.log().find(&token).is_none(), "nor the log");
        drop(daemon);
        let captured = capture.finish()?;
        assert!(captured.contains(&a.addr4().octets()) || captured.contains(&a.addr6().octets()));
        assert!(!captured.contains(token.as_bytes()));
        mesh.members.clear();
        Ok(())
    });
}
