//! `meshctl join`.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use data_encoding::BASE64;
use meshd_api::{
    Answer, Exit, ImportRequest, JoinFileReply, JoinFileRequest, JoinRequest, MemberReply, Secret, Signed,
};
use meshd_wire::{MeshId, OrgId};

use super::{Daemon, status};
use crate::armour::{self, Content};
use crate::failure::Failure;
use crate::file::{self, Readers};
use crate::name::Name;
use crate::output::{self, Form};
use crate::table::Facts;

/// Join a mesh, with a token or by files.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("way").required(true).args(["token", "request", "import"]))]
pub struct Join {
    /// Token from `meshctl invite`; `-` reads it from standard input, where no other user sees it.
    token: Option<String>,
    /// Write a request file, `-` for standard output.
    #[arg(long, value_name = "FILE", requires = "mesh", requires = "org")]
    request: Option<PathBuf>,
    /// Read a steward's answer, `-` from standard input.
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,
    /// Mesh id to join by files.
    #[arg(long, value_name = "ID", requires = "request")]
    mesh: Option<MeshId>,
    /// Organisation id to join for by files.
    #[arg(long, value_name = "ID", requires = "request")]
    org: Option<OrgId>,
    /// Name of this host in the mesh; its host name if none is given.
    #[arg(long, conflicts_with = "import")]
    name: Option<Name>,
}

impl Join {
    /// Joins one of the three ways.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let name = self.name.map(String::from);
        match (self.token, self.request.zip(self.mesh).zip(self.org), self.import) {
            (Some(token), _, _) => with_token(daemon, token, name).await,
            (None, Some(((path, mesh), org)), _) => {
                let request = JoinFileRequest { mesh: mesh.to_string(), org: org.to_string(), name };
                let answer = daemon.client.call(&request).await?;
                write_request(daemon, &path, &answer)
            }
            (None, None, Some(path)) => {
                let bytes = read(&path, Content::Admission)?;
                let request = ImportRequest { response: Signed(BASE64.encode(&bytes)) };
                print_member(daemon, &daemon.client.call(&request).await?)
            }
            (None, None, None) => Err(Failure::new(Exit::Usage, "neither a token nor a file was given")),
        }
    }
}

async fn with_token(daemon: &Daemon, token: String, name: Option<String>) -> Result<(), Failure> {
    let token = if token == "-" { file::read_text(Path::new("-"))?.trim().to_owned() } else { token };
    let request = JoinRequest { token: Secret(token), name };
    print_member(daemon, &daemon.client.call(&request).await?)
}

fn write_request(daemon: &Daemon, path: &Path, answer: &Answer<JoinFileReply>) -> Result<(), Failure> {
    let bytes = super::unbase64(&answer.body.request)?;
    let text = armour::write(Content::JoinRequest, &bytes);
    if path == Path::new("-") {
        return daemon.form.answer(answer, |_| text.trim_end().to_owned());
    }
    file::write_over(path, text.as_bytes(), Readers::All)?;
    daemon.form.answer(answer, |reply| {
        format!("wrote the request of {} (node id {}) to {}", reply.name, reply.id, path.display())
    })?;
    if daemon.form == Form::Human {
        output::talk(&format!("on a steward: meshctl admit {}", path.display()));
    }
    Ok(())
}

/// Reads a file of one block.
pub fn read(path: &Path, wanted: Content) -> Result<Vec<u8>, Failure> {
    armour::read_one(&file::read_text(path)?, wanted)
        .map_err(|error| Failure::new(Exit::Usage, format!("can't use {}", path.display())).because(&error))
}

/// Prints what the node has become.
pub fn print_member(daemon: &Daemon, answer: &Answer<MemberReply>) -> Result<(), Failure> {
    daemon.form.answer(answer, |MemberReply { node, mesh }| {
        let mut facts = Facts::new();
        status::mesh_facts(&mut facts, mesh);
        status::node_facts(&mut facts, node);
        facts.to_text()
    })
}
