// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// The token that consumers pay with. The whole supply goes to the deployer.
contract PaymentToken is ERC20 {
    constructor(uint256 supply) ERC20("Devnet Payment Token", "DPT") {
        _mint(msg.sender, supply);
    }
}
