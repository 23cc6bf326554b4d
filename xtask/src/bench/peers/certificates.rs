//! A certificate authority of a bench's own, for peers that speak mutual TLS.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::done;

/// Puts `ca.pem` into a folder, and certificate and key of a server and a client, alone and as
/// `server.both` and `client.both`.
pub(crate) fn certificates(folder: &Path) -> Result<()> {
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        done(command.current_dir(folder).args(arguments.split(' ')))
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ca -days 30"))?;
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n")?;
    for name in ["server", "client"] {
        openssl(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"))?;
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
             -extfile names -out {name}.pem"
        ))?;
        let part = |end: &str| fs::read(folder.join(format!("{name}.{end}")));
        fs::write(folder.join(format!("{name}.both")), [part("pem")?, part("key")?].concat())?;
    }
    Ok(())
}
