//! The board: plan, build, vCPU loop.
