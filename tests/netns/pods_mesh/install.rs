//! The plugin as a program on hosts that may be anything.

use anyhow::ensure;
use mesh_lab::{static_program, story};

#[test]
fn the_plugin_runs_where_there_is_nothing_but_a_kernel() {
    story("pods-static", |lab| {
        let a = lab.host("a")?;
        let root = a.dir().join("bare");
        std::fs::create_dir(&root)?;
        std::fs::copy(static_program("meshd-cni")?, root.join("meshd"))?;
        let root = root.to_string_lossy();
        let told = a.run(&["chroot", &root, "/meshd", "--version"])?.ok()?;
        ensure!(told.starts_with("meshd, a plugin of CNI, version "), "{told}");
        Ok(())
    });
}
