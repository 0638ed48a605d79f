"""Training the gates: documents, loss, truncated backpropagation, and the card of what came out.

    corpus formats rendering excerpts    documents and records, as the model will meet them
    loss blocks bptt                     what is learned from, and the way back through the segments
    run checkpoint sharing               a run that can be stopped; gates with parameters in common
    recalling                            the same with what left the window brought back from disk
    card                                 what came out, for whoever finds it
"""
