// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// The modeler's MultiSig wallet, of which one signer of two is enough: `sendMultiSig` with an empty signature.
///
/// A sequence id may be used once, must be above the lowest of the last ten used, and at most 10,000 above it, so
/// several calls can be in flight when each takes its own id. A revert inside uses up no id.
contract WalletSimple {
    uint256 private constant WINDOW = 10;
    uint256 private constant MAX_AHEAD = 10_000;

    mapping(address => bool) public isSigner;
    uint256[WINDOW] private recentIds;

    event Deposited(address indexed from, uint256 value);
    event Transacted(address indexed signer, address indexed to, uint256 value, bytes data, uint256 sequenceId);

    error ZeroSigner();
    error NotSigner(address caller);
    error Expired(uint256 expireTime, uint256 blockTime);
    error SignatureNotAccepted();
    error SequenceIdUsed(uint256 sequenceId);
    error SequenceIdTooLow(uint256 sequenceId, uint256 lowest);
    error SequenceIdTooHigh(uint256 sequenceId, uint256 atMost);
    error CallFailed(address to);

    constructor(address[2] memory signers) {
        for (uint256 i = 0; i < signers.length; i++) {
            if (signers[i] == address(0)) revert ZeroSigner();
            isSigner[signers[i]] = true;
        }
    }

    receive() external payable {
        emit Deposited(msg.sender, msg.value);
    }

    function sendMultiSig(
        address to,
        uint256 value,
        bytes calldata data,
        uint256 expireTime,
        uint256 sequenceId,
        bytes calldata signature
    ) external {
        if (!isSigner[msg.sender]) revert NotSigner(msg.sender);
        if (expireTime < block.timestamp) revert Expired(expireTime, block.timestamp);
        if (signature.length != 0) revert SignatureNotAccepted();
        useSequenceId(sequenceId);

        (bool success, bytes memory returned) = to.call{value: value}(data);
        if (!success) bubble(to, returned);
        emit Transacted(msg.sender, to, value, data, sequenceId);
    }

    /// One above the highest id used so far.
    function getNextSequenceId() external view returns (uint256) {
        uint256 highest = 0;
        for (uint256 i = 0; i < WINDOW; i++) {
            if (recentIds[i] > highest) highest = recentIds[i];
        }
        return highest + 1;
    }

    /// Puts the id into the window in the place of the lowest, or reverts.
    function useSequenceId(uint256 sequenceId) private {
        uint256 lowest = 0;
        for (uint256 i = 0; i < WINDOW; i++) {
            if (recentIds[i] == sequenceId) revert SequenceIdUsed(sequenceId);
            if (recentIds[i] < recentIds[lowest]) lowest = i;
        }
        uint256 lowestId = recentIds[lowest];
        if (sequenceId < lowestId) revert SequenceIdTooLow(sequenceId, lowestId);
        if (sequenceId > lowestId + MAX_AHEAD) revert SequenceIdTooHigh(sequenceId, lowestId + MAX_AHEAD);
        recentIds[lowest] = sequenceId;
    }

    /// Reverts with the very error of the inner call, so that its name is not lost.
    function bubble(address to, bytes memory returned) private pure {
        if (returned.length == 0) revert CallFailed(to);
        assembly ("memory-safe") {
            revert(add(returned, 32), mload(returned))
        }
    }
}
