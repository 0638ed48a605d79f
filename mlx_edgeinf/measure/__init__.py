"""What evaluation and benchmark are made of: ways of reading, statistics, results on disk, pictures.

    options                           the command line: one sub-command for each measurement
    subject readings eviction         the model that is measured, and the ways of reading that are compared
    passages tasks claims hiding      what is read, what is asked about it, and what is hidden in it
    asking                            a question to a fork of a reading, and how likely the right answer is
    perplexity answers facts retention lengths mixes heads selection ahead evidence
                                      the measurements of `evaluate`
    sides stored learning             those of `benchmark`
    gap scores found curve variants metrics kills tables picture
                                      tables and pictures of what was measured
    results work                      on disk, and what is still to do, shared between processes
"""
