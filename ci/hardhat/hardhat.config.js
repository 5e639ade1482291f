// A chain like the devnet's: blocks come by themselves, at Arbitrum's pace, with room for many answers.
module.exports = {
  networks: {
    hardhat: {
      chainId: 31337,
      blockGasLimit: 4_000_000_000,
      // Four blocks a second, as on Arbitrum: otherwise its clock would run ahead.
      allowBlocksWithSameTimestamp: true,
      accounts: { mnemonic: "test test test test test test test test test test test junk", count: 10 },
      mining: { auto: false, interval: 250, mempool: { order: "fifo" } },
    },
  },
};
