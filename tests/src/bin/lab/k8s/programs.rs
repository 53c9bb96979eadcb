//! Kubernetes itself, built from Debian's source package: the only Kubernetes that registries of packages have.
//!
//! It is kept below `target/`, a gigabyte with the compiler's cache, and built once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{debian, packages};

/// What is built.
const PROGRAMS: [&str; 6] =
    ["kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"];

/// What building and running needs, and the packages that bring it. That Kubernetes wants an older compiler.
const NEEDED: [(&str, &str); 3] =
    [("/usr/lib/go-1.19/bin/go", "golang-1.19-go"), ("conntrack", "conntrack"), ("xz", "xz-utils")];

/// The compiler.
const GO: &str = "/usr/lib/go-1.19/bin/go";

/// Release that has the source package.
const RELEASE: &str = "bookworm";

/// Generates what the source package lacks: descriptions of the API's types.
const GENERATE: &str = r#"
dirs=$(find vendor/k8s.io/ pkg cmd plugin -follow -type f -name '*.go' -print0 |
    xargs -0 grep -l '^// +k8s:openapi-gen=' | grep -v -e code-generator -e sample-apiserver -e _test.go |
    xargs -n1 dirname | LC_ALL=C sort -u | sed 's,^,k8s.io/kubernetes/,' | paste -sd,)
exec "$0" --logtostderr --input-dirs "$dirs" --output-package k8s.io/kubernetes/pkg/generated/openapi \
    --output-file-base zz_generated.openapi --go-header-file vendor/k8s.io/code-generator/hack/boilerplate.go.txt \
    --report-filename /dev/null
"#;

/// Programs of Kubernetes.
#[derive(Debug)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// Builds what is missing: ten minutes of two cores, once.
    pub fn install() -> Result<Self> {
        packages::install_all(&NEEDED)?;
        let root = mesh_lab::target_dir()?.join("lab-kubernetes");
        let programs = Self { dir: root.join("bin") };
        let missing: Vec<&str> = PROGRAMS.into_iter().filter(|name| !programs.path(name).exists()).collect();
        if missing.is_empty() {
            return Ok(programs);
        }
        println!("building {} of Kubernetes 1.20.2, once", missing.join(", "));
        fs::create_dir_all(&root).with_context(|| format!("make {}", root.display()))?;
        // One at a time: another lab may want the same.
        let lock = File::create(root.join("lock")).context("lock the build of Kubernetes")?;
        lock.lock().context("lock the build of Kubernetes")?;
        let tree = Tree { root };
        tree.unpack()?;
        tree.generate()?;
        for name in missing {
            println!("building {name}");
            tree.build(&format!("./cmd/{name}"), name)?;
        }
        Ok(programs)
    }

    /// Path of a program.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The source, unpacked where the compiler looks for it.
struct Tree {
    root: PathBuf,
}

impl Tree {
    fn source(&self) -> PathBuf {
        self.root.join("go/src/k8s.io/kubernetes")
    }

    fn unpack(&self) -> Result<()> {
        let source = self.source();
        if source.join("vendor").exists() {
            return Ok(());
        }
        let archive = self.download()?;
        let part = self.root.join("unpacking");
        fs::create_dir_all(&part).context("make room for the source")?;
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--gzip", "--strip-components=1", "--file"]).arg(archive);
        run(tar.arg("--directory").arg(&part))?;
        fs::create_dir_all(source.parent().context("find the place of the source")?)
            .context("make room for the source")?;
        fs::rename(&part, &source).context("put the source where the compiler looks for it")
    }

    /// Downloads the source package, with lists of packages of its own: this machine's may have no sources.
    fn download(&self) -> Result<PathBuf> {
        let apt = self.root.join("src");
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.join(part)).context("make room for the source package")?;
        }
        let list = apt.join("sources.list");
        let source = format!("deb-src {} {RELEASE} main\n", debian::mirror()?);
        fs::write(&list, source).context("name where the source package is")?;
        let option = |name: &str, value: &Path| format!("-o{name}={}", value.display());
        let options = [
            option("Dir::Etc::sourcelist", &list),
            option("Dir::Etc::sourceparts", Path::new("/dev/null")),
            option("Dir::State::lists", &apt.join("lists")),
            option("Dir::Cache", &apt.join("cache")),
            "-oAPT::Sandbox::User=root".to_owned(),
        ];
        run(Command::new("apt-get").args(&options).args(["update", "--quiet"]))?;
        let source = ["source", "--quiet", "--download-only", "kubernetes=1.20*"];
        run(Command::new("apt-get").args(&options).args(source).current_dir(&apt))?;
        let files =
            fs::read_dir(&apt).context("list the source package")?.flatten().map(|entry| entry.path());
        let mut files = files.filter(|path| path.to_string_lossy().ends_with(".orig.tar.gz"));
        files.next().context("find the archive of the source package")
    }

    fn generate(&self) -> Result<()> {
        if self.source().join("pkg/generated/openapi/zz_generated.openapi.go").exists() {
            return Ok(());
        }
        self.build("./vendor/k8s.io/kube-openapi/cmd/openapi-gen", "openapi-gen")?;
        let generator = self.root.join("bin/openapi-gen");
        run(self.command("sh").args(["-euc", GENERATE]).arg(generator))
    }

    fn build(&self, package: &str, name: &str) -> Result<()> {
        let version = "-X k8s.io/kubernetes/vendor/k8s.io/component-base/version.git";
        let flags = format!("-s -w {version}Version=v1.20.2 {version}Major=1 {version}Minor=20");
        let part = self.root.join("bin").join(format!("{name}.part"));
        let mut go = self.command(GO);
        go.args(["build", "-p", "2", "-ldflags", &flags, "-o"]).arg(&part).arg(package);
        run(&mut go)?;
        fs::rename(&part, self.root.join("bin").join(name))
            .with_context(|| format!("put {name} in its place"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap_or_default();
        let of_go = Path::new(GO).parent().map(|dir| dir.display().to_string()).unwrap_or_default();
        command
            .current_dir(self.source())
            .env("GOPATH", self.root.join("go"))
            .env("GOCACHE", self.root.join("cache"))
            .env("PATH", format!("{of_go}:{path}"))
            .envs([
                ("GO111MODULE", "off"),
                ("GOPROXY", "off"),
                ("GOTOOLCHAIN", "local"),
                ("CGO_ENABLED", "0"),
            ]);
        command
    }
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("start {program}"))?;
    if !status.success() {
        bail!("{program} ended with {status}");
    }
    Ok(())
}
