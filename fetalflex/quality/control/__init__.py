"""Do the images show what their layouts asked for?"""
