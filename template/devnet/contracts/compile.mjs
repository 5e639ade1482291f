// Compiles Solidity with the solc that package.json pins.
//
//   node compile.mjs            compiles src/ and writes artifacts/ (one JSON file a contract: ABI and bytecode)
//   node compile.mjs --check    fails if artifacts/ is not what src/ compiles to
//   node compile.mjs FILE.sol   compiles another file, such as an EZKL verifier, and prints {"abi", "bytecode"}

import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const sources = join(here, 'src')
const artifacts = join(here, 'artifacts')

// What is deployed. The other sources are only imported.
const deployed = [
  'Competition',
  'Consumption',
  'ConsumptionString',
  'Modeler',
  'PaymentToken',
  'ProofRegistry',
  'WalletSimple',
]

// A contract larger than this cannot be deployed (EIP-170).
const maxDeployedBytes = 24_576

function fail(message) {
  console.error(`compile.mjs: ${message}`)
  process.exit(1)
}

function loadSolc() {
  try {
    return createRequire(import.meta.url)('solc')
  } catch {
    return fail(`solc is not installed: run \`npm ci\` in ${here}`)
  }
}

/** Compiles `{name: text}` and returns solc's `{file: {contract: output}}`. */
function compile(texts) {
  const input = {
    language: 'Solidity',
    sources: Object.fromEntries(Object.entries(texts).map(([name, content]) => [name, { content }])),
    settings: {
      // The oldest EVM in use: what it runs, Arbitrum and anvil both run.
      evmVersion: 'paris',
      // One run: small code matters more than cheap calls, an EZKL verifier has to stay below the size limit.
      optimizer: { enabled: true, runs: 1 },
      // No digest of the metadata in the bytecode, so that it depends on the code alone.
      metadata: { bytecodeHash: 'none', appendCBOR: false },
      outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object', 'evm.deployedBytecode.object'] } },
    },
  }
  const output = JSON.parse(loadSolc().compile(JSON.stringify(input), { import: readImport }))
  const errors = (output.errors ?? []).filter((error) => error.severity === 'error')
  if (errors.length > 0) fail(errors.map((error) => error.formattedMessage).join('\n'))
  return output.contracts
}

/** Finds what a source imports: a neighbour in src/, else a package. */
function readImport(path) {
  for (const folder of [sources, join(here, 'node_modules')]) {
    try {
      return { contents: readFileSync(join(folder, path), 'utf8') }
    } catch (error) {
      if (error.code !== 'ENOENT') return { error: error.message }
    }
  }
  return { error: `${path} is neither in src/ nor in node_modules/: run \`npm ci\` in ${here}` }
}

/** The part of solc's output that is needed to deploy and call a contract. */
function artifact(contract, output) {
  const bytes = output.evm.deployedBytecode.object.length / 2
  if (bytes > maxDeployedBytes) {
    fail(`${contract} takes ${bytes} bytes deployed, at most ${maxDeployedBytes} are allowed`)
  }
  return { contract, abi: output.abi, bytecode: `0x${output.evm.bytecode.object}` }
}

function text(artifact) {
  return `${JSON.stringify(artifact, null, 1)}\n`
}

function compileSources() {
  const names = readdirSync(sources).filter((name) => name.endsWith('.sol'))
  const contracts = compile(
    Object.fromEntries(names.map((name) => [name, readFileSync(join(sources, name), 'utf8')])),
  )
  return deployed.map((name) => artifact(name, contracts[`${name}.sol`][name]))
}

function write() {
  rmSync(artifacts, { recursive: true, force: true })
  mkdirSync(artifacts)
  for (const each of compileSources()) writeFileSync(join(artifacts, `${each.contract}.json`), text(each))
}

function check() {
  const wanted = Object.fromEntries(compileSources().map((each) => [`${each.contract}.json`, text(each)]))
  const found = Object.fromEntries(
    readdirSync(artifacts).map((name) => [name, readFileSync(join(artifacts, name), 'utf8')]),
  )
  const stale = [...new Set([...Object.keys(wanted), ...Object.keys(found)])].filter(
    (name) => wanted[name] !== found[name],
  )
  if (stale.length > 0) {
    fail(`artifacts/ does not match src/ (${stale.join(', ')}): run \`npm run compile\` in ${here}`)
  }
}

function compileOther(path) {
  const name = basename(path)
  const contracts = compile({ [name]: readFileSync(path, 'utf8') })[name]
  // Without libraries and interfaces, which have no code of their own to deploy.
  const found = Object.entries(contracts).filter(([, output]) => output.evm.bytecode.object.length > 0)
  if (found.length !== 1) {
    fail(`${path} should hold one contract, it holds ${found.length}: ${found.map(([each]) => each).join(', ')}`)
  }
  process.stdout.write(text(artifact(...found[0])))
}

const [argument, ...rest] = process.argv.slice(2)
if (rest.length > 0) fail('one argument at most: --check or a Solidity file')
if (argument === undefined) write()
else if (argument === '--check') check()
else compileOther(argument)
