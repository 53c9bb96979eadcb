//! A real program over the mesh.

use std::time::Duration;

use mesh_lab::{secure_sum, story};

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn three_hosts_add_up_their_numbers_ten_times() {
    story("secure-sum", |lab| {
        let [a, b, c] = lab.hosts(["a", "b", "c"])?;
        let mesh = lab.mesh("clinics", &[&a, &b, &c])?;
        mesh.everyone_sees_all()?;
        mesh.everyone_reaches_all()?;
        for round in 0..10_u64 {
            let numbers = [round, 1_000_000 + round, u64::MAX - 7];
            let run = secure_sum::on_mesh(&mesh, &numbers)?;
            let sum = numbers.iter().fold(0_u64, |sum, number| sum.wrapping_add(*number));
            assert_eq!(run.sums, [sum; 3]);
        }
        Ok(())
    });
}

#[test]
fn an_address_that_nobody_has_answers_at_once() {
    story("unallocated", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_sees_all()?;
        let steward = mesh.steward()?;
        let absent4 = std::net::Ipv4Addr::from(u32::from(steward.addr4) + 100).to_string();
        let absent6 = std::net::Ipv6Addr::from(u128::from(steward.addr6) ^ 1).to_string();
        for absent in [absent4, absent6] {
            let line = ["ping", "-n", "-c", "1", "-W", "10", &absent];
            let output = a.run_within(DEADLINE, &line)?;
            assert_eq!(output.code, 1, "{}", output.stdout);
            assert!(output.stdout.to_lowercase().contains("unreachable"), "{}", output.stdout);
        }
        Ok(())
    });
}
