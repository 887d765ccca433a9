"""Train the same models with vtrain and with other programs in turns, and compare their speed."""

from benchmarks.peers.compare import main

if __name__ == "__main__":
    main()
