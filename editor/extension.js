// Starts the language server of prunus, and stops it with the editor.
const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

exports.activate = () => {
  const [command, ...args] = workspace.getConfiguration("prunus").get("command");
  client = new LanguageClient("prunus-rules", "prunus rules", { command, args }, {
    documentSelector: [{ language: "prunus-rules" }],
  });
  return client.start();
};

exports.deactivate = () => client && client.stop();
